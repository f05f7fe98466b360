"""State files: replaced whole or not at all, and not for other users' eyes."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from spanweir.collector.durable import create_file, replace_file
from spanweir.collector.queue.api import Record
from spanweir.collector.queue.disk import Config


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """The operating system takes so many bytes of a file, then refuses: as a disk that fills up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "state"
    replace_file(path, b"old and long")
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


def test_a_disk_that_fills_up_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "state"
    replace_file(path, b"old")
    with largest_file(1000), pytest.raises(OSError, match="File too large"):
        replace_file(path, bytes(2000))
    assert path.read_bytes() == b"old"


def test_a_file_that_exists_is_not_made_again(tmp_path: Path) -> None:
    create_file(tmp_path / "letter", b"first")
    with pytest.raises(FileExistsError):
        create_file(tmp_path / "letter", b"second")
    assert (tmp_path / "letter").read_bytes() == b"first"


def test_what_may_quote_prompts_is_for_its_owner_only(tmp_path: Path) -> None:
    replace_file(tmp_path / "state", b"a prompt")
    writer = Config(directory=str(tmp_path / "queue")).open_writer()
    writer.append(Record(signal="traces", received_ns=1, body=b"a prompt"))
    writer.close()
    files = [tmp_path / "state", *(tmp_path / "queue").glob("*.seg")]
    assert [oct(path.stat().st_mode & 0o777) for path in files] == ["0o600", "0o600"]
