"""A museum of what can happen to a queue directory. Each test says what broke before it breaks it by hand."""

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from spanweir.collector.queue import segment
from spanweir.collector.queue.api import Gap, QueueInUse, QueueUnavailable, Record
from spanweir.collector.queue.cursors import Cursors
from spanweir.collector.queue.disk import Config, DiskWriter
from spanweir.collector.queue.disk_reader import DiskReader
from spanweir.schemas.options import KIB, MIB, Size
from tests.support import small_disk as disks

FRAME = segment.FRAME_HEADER_BYTES + 1000
HEAD = segment.FILE_HEADER_BYTES


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(directory=str(tmp_path / "queue"), max_bytes=Size(MIB), segment_bytes=Size(8 * KIB))


def record(number: int) -> Record:
    return Record(signal="traces", received_ns=1, body=b"%d " % number + b"x" * (999 - len(str(number))))


def filled(config: Config, count: int = 20) -> list[Path]:
    """A closed queue of `count` records of 1000 bytes, eight in a segment; its segments."""
    writer = DiskWriter(config)
    for number in range(1, count + 1):
        writer.append(record(number))
    writer.close()
    return sorted(Path(config.directory).glob("*.seg"))


def patch(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def read_all(config: Config) -> tuple[list[int], list[Gap]]:
    reader = DiskReader(config, ["a"])
    try:
        numbers: list[int] = []
        while records := reader.read(numbers[-1] if numbers else 0, 3, MIB, 0):
            numbers += [one.sequence for one in records]
            assert all(one.body == record(one.sequence).body for one in records)
        return numbers, list(reader.gaps)
    finally:
        reader.close()


def without(*lost: int, count: int = 20) -> list[int]:
    return [number for number in range(1, count + 1) if number not in lost]


def set_aside(config: Config) -> list[str]:
    return sorted(path.name for path in (Path(config.directory) / "corrupt").glob("*"))


def test_a_flipped_bit_in_a_body_costs_that_record(config: Config) -> None:
    segments = filled(config)
    patch(segments[1], HEAD + 2 * FRAME + 500, b"\0")
    numbers, gaps = read_all(config)
    assert numbers == without(11)
    assert gaps == [Gap(first=11, last=11, segment=segments[1].name, reason="record 11 does not verify")]
    assert set_aside(config) == [segments[1].name]


def test_a_flipped_bit_in_a_length_costs_that_record(config: Config) -> None:
    segments = filled(config)
    patch(segments[0], HEAD + FRAME + 8, b"\xff\xff\xff\x7f")
    numbers, gaps = read_all(config)
    assert numbers == without(2)
    assert [(gap.first, gap.last) for gap in gaps] == [(2, 2)]


def test_a_page_of_zeros_costs_the_records_in_it(config: Config) -> None:
    # What a disk that lost a write gives back.
    segments = filled(config)
    patch(segments[0], 4096, bytes(4096))
    numbers, gaps = read_all(config)
    assert numbers == without(4, 5, 6, 7, 8)
    assert sum(gap.last - gap.first + 1 for gap in gaps) == 5


def test_a_segment_of_garbage_costs_that_segment(config: Config) -> None:
    segments = filled(config)
    segments[1].write_bytes(os.urandom(segments[1].stat().st_size))
    numbers, gaps = read_all(config)
    assert numbers == without(*range(9, 17))
    assert [(gap.first, gap.last) for gap in gaps] == [(9, 16)]
    assert set_aside(config) == [segments[1].name]


def test_a_segment_that_is_gone_is_a_gap(config: Config) -> None:
    segments = filled(config)
    segments[1].unlink()
    numbers, gaps = read_all(config)
    assert numbers == without(*range(9, 17))
    assert [(gap.first, gap.last) for gap in gaps] == [(9, 16)]


def test_an_acknowledged_end_that_is_gone_is_a_gap_and_its_numbers_are_not_used_again(config: Config) -> None:
    # fdatasync returned, and after the power cut the end of the file is not there: a disk that lies.
    segments = filled(config)
    os.truncate(segments[-1], HEAD + 2 * FRAME + 10)
    writer = DiskWriter(config)
    assert writer.append(record(21)) == 21
    writer.close()
    numbers, gaps = read_all(config)
    assert numbers == [*without(19, 20), 21]
    assert [(gap.first, gap.last) for gap in gaps] == [(19, 20)]
    assert set_aside(config) == [segments[-1].name]


@pytest.mark.parametrize("state", ["kept", "gone"])
def test_damage_inside_the_newest_segment_is_never_written_over(config: Config, state: str) -> None:
    segments = filled(config)
    patch(segments[-1], HEAD + FRAME + 300, b"\0\0")
    before = segments[-1].read_bytes()
    if state == "gone":
        (Path(config.directory) / "state").unlink()
    writer = DiskWriter(config)
    assert writer.append(record(21)) == 21
    writer.close()
    assert segments[-1].read_bytes() == before
    assert set_aside(config) == [segments[-1].name]
    assert read_all(config)[0] == [*without(18), 21]


def test_a_damaged_last_record_without_a_state_file_is_kept_for_inspection(config: Config) -> None:
    # Nothing tells whether it was acknowledged, so neither its bytes nor its number are given to another.
    segments = filled(config)
    patch(segments[-1], HEAD + 3 * FRAME + 10, b"\0\0\0\0")
    (Path(config.directory) / "state").unlink()
    writer = DiskWriter(config)
    number = writer.append(record(21))
    writer.close()
    assert number > 20
    assert set_aside(config) == [segments[-1].name]


@pytest.mark.parametrize("tail", [b"\xf5swr", b"\0" * 4096, "half", "header"])
def test_a_torn_write_is_cut_off_and_is_no_gap(config: Config, tail: bytes | str) -> None:
    segments = filled(config)
    body = record(21).body
    header = segment.frame_header(21, "traces", 1, b"", body, segment.payload_checksum(b"", body))
    with segments[-1].open("ab") as file:
        file.write({"half": header + body[:500], "header": header}[tail] if isinstance(tail, str) else tail)
    writer = DiskWriter(config)
    assert writer.append(record(21)) == 21
    writer.close()
    assert read_all(config) == (without(count=21), [])
    assert set_aside(config) == []


def test_a_segment_that_was_just_created_when_the_power_went(config: Config) -> None:
    filled(config, 16)
    (Path(config.directory) / segment.file_name(17)).write_bytes(b"SPW")
    writer = DiskWriter(config)
    assert writer.append(record(17)) == 17
    writer.close()
    assert read_all(config) == (without(count=17), [])


def test_a_damaged_file_header_costs_nothing(config: Config) -> None:
    segments = filled(config)
    patch(segments[0], 0, b"?" * HEAD)
    patch(segments[-1], 0, b"?" * HEAD)
    writer = DiskWriter(config)
    assert writer.append(record(21)) == 21
    writer.close()
    assert read_all(config) == (without(count=21), [])


def test_a_newer_format_is_refused_and_left_alone(config: Config) -> None:
    segments = filled(config)
    patch(segments[-1], 7, b"\x09")
    before = segments[-1].read_bytes()
    with pytest.raises(QueueUnavailable, match="format version 9 is not known to this release"):
        DiskWriter(config)
    assert segments[-1].read_bytes() == before


def test_damage_while_the_queue_runs_costs_that_record(config: Config) -> None:
    writer, reader = DiskWriter(config), DiskReader(config, ["a"])
    for number in range(1, 5):
        writer.append(record(number))
    patch(next(Path(config.directory).glob("*.seg")), HEAD + 3 * FRAME + 8, b"\0\0")
    assert [one.sequence for one in reader.read(0, 10, MIB, 1)] == [1, 2, 3]
    assert list(reader.read(3, 10, MIB, 0)) == []
    writer.append(record(5))
    assert [one.sequence for one in reader.read(3, 10, MIB, 1)] == [5]
    assert reader.lost_records == 1
    writer.close()
    reader.close()


@pytest.mark.parametrize("first", [9, 10, 99, 100])
def test_a_cursor_of_which_one_place_is_damaged_is_at_the_other(config: Config, first: int) -> None:
    path = Path(config.directory) / "cursors" / "a"
    for sequence in range(first, first + 4):
        cursors = Cursors(Path(config.directory))
        cursors.activate(["a"])
        cursors.store("a", sequence - 1)
        cursors.store("a", sequence)
        whole = path.read_bytes()
        places = {cursors.load()["a"]}
        for offset in (0, 4096):
            patch(path, offset, b"0")
            places.add(cursors.load()["a"])
            path.write_bytes(whole)
        assert places == {sequence - 1, sequence}


def test_a_torn_place_of_a_cursor_is_written_over_next(config: Config) -> None:
    path = Path(config.directory) / "cursors" / "a"
    cursors = Cursors(Path(config.directory))
    cursors.activate(["a"])
    for sequence in (8, 9):
        cursors.store("a", sequence)
    torn = 4096 if path.read_bytes().startswith(b"9 ") else 0
    patch(path, torn, b"10 0000")
    again = Cursors(Path(config.directory))
    assert again.activate(["a"]) == {"a": 9}
    again.store("a", 10)
    patch(path, 4096 - torn, b"?")
    assert again.load() == {"a": 10}


def test_a_damaged_cursor_starts_over_and_a_later_advance_repairs_it(config: Config) -> None:
    filled(config)
    reader = DiskReader(config, ["a", "b"])
    reader.advance("a", 5)
    reader.advance("b", 6)
    reader.close()
    for offset in (0, 4096):
        patch(Path(config.directory) / "cursors" / "a", offset, b"9")
    reader = DiskReader(config, ["a", "b"])
    assert (reader.cursor("a"), reader.cursor("b")) == (0, 6)
    reader.advance("a", 7)
    reader.close()
    assert Cursors(Path(config.directory)).load() == {"a": 7, "b": 6}


def test_numbers_are_not_used_again_when_all_segments_are_gone(config: Config) -> None:
    filled(config)
    reader = DiskReader(config, ["a"])
    reader.advance("a", 15)
    reader.close()
    for path in Path(config.directory).glob("*.seg"):
        path.unlink()
    (Path(config.directory) / "state").unlink()
    writer = DiskWriter(config)
    assert writer.append(record(16)) == 16
    writer.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disks.small_disk(tmp_path / "disk", "256k") as place:
        yield place


def append_until_refused(writer: DiskWriter) -> int:
    """How many records it took."""
    for count in range(1000):
        try:
            writer.append(record(count + 1))
        except QueueUnavailable:
            return count
    raise AssertionError("never refused")


def test_a_full_disk_refuses_and_goes_on_when_there_is_room(small_disk: Path) -> None:
    config = Config(directory=str(small_disk / "queue"), max_bytes=Size(MIB), segment_bytes=Size(64 * KIB))
    ballast = small_disk / "ballast"
    writer = DiskWriter(config)
    ballast.write_bytes(bytes(100 * KIB))
    count = append_until_refused(writer)
    assert 50 < count < 150
    with pytest.raises(QueueUnavailable, match=os.strerror(errno.ENOSPC)):
        writer.append(record(1))
    ballast.unlink()
    assert writer.append(record(count + 1)) == count + 1
    writer.close()
    assert read_all(config) == (list(range(1, count + 2)), [])


def test_a_queue_on_a_full_disk_opens_and_can_be_drained(small_disk: Path) -> None:
    config = Config(directory=str(small_disk / "queue"), max_bytes=Size(MIB), segment_bytes=Size(64 * KIB))
    writer = DiskWriter(config)
    DiskReader(config, ["a"]).close()
    count = append_until_refused(writer)
    writer.close()
    writer = DiskWriter(config)
    assert writer.last() == count
    assert read_all(config)[0] == list(range(1, count + 1))
    writer.close()


def test_a_file_size_limit_refuses_and_costs_no_acknowledged_record(config: Config) -> None:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = DiskWriter(msgspec.structs.replace(config, segment_bytes=Size(256 * KIB)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_500, old[1]))
    try:
        count = append_until_refused(writer)
        with pytest.raises(QueueUnavailable, match=os.strerror(errno.EFBIG)):
            writer.append(record(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert writer.append(record(count + 1)) == count + 1
    writer.close()
    assert read_all(config) == (list(range(1, count + 2)), [])


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Root may write anywhere."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        yield
        os.seteuid(0)
    else:
        yield


@pytest.mark.usefixtures("unprivileged")
def test_a_directory_that_cannot_be_written_is_named() -> None:
    with pytest.raises(QueueUnavailable, match="queue directory /proc/queue cannot be used: "):
        DiskWriter(Config(directory="/proc/queue"))
    with pytest.raises(QueueUnavailable, match=r"queue directory /usr cannot be used: (Permission denied|Read-only)"):
        DiskWriter(Config(directory="/usr"))


def test_a_directory_that_goes_away_refuses_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    config = Config(directory=str(tmp_path / "queue"), max_bytes=Size(MIB), segment_bytes=Size(8 * KIB))
    writer = DiskWriter(config)
    for number in range(1, 9):
        writer.append(record(number))
    directory = Path(config.directory)
    hidden = directory.with_name("hidden")
    # The ninth record needs a new segment, and its directory is not there.
    directory.rename(hidden)
    with pytest.raises(QueueUnavailable, match="No such file"):
        writer.append(record(9))
    hidden.rename(directory)
    assert writer.append(record(9)) == 9
    writer.close()


def test_a_disk_that_turns_read_only_refuses_and_goes_on(small_disk: Path) -> None:
    config = Config(directory=str(small_disk / "queue"), max_bytes=Size(MIB), segment_bytes=Size(8 * KIB))
    filled(config, 8)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(QueueUnavailable, match="Read-only file system"):
        DiskWriter(config)
    with pytest.raises(QueueUnavailable, match="Read-only file system"):
        DiskReader(config, ["a"])
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    writer = DiskWriter(config)
    assert writer.append(record(9)) == 9
    writer.close()


def test_a_directory_in_use_names_the_process(config: Config) -> None:
    writer = DiskWriter(config)
    with pytest.raises(QueueInUse, match=rf"in use by process {os.getpid()}; stop it"):
        DiskWriter(config)
    program = (
        "import sys\n"
        "from spanweir.collector.queue.api import QueueInUse\n"
        "from spanweir.collector.queue.disk import Config\n"
        "try:\n    Config(directory=sys.argv[1]).open_writer()\n"
        "except QueueInUse as error:\n    print(error)\n"
    )
    other = subprocess.run(
        [sys.executable, "-c", program, config.directory], capture_output=True, text=True, check=True
    )
    assert f"in use by process {os.getpid()}" in other.stdout
    writer.close()
    DiskWriter(config).close()


WRITER = """
import sys, threading
from spanweir.collector.queue.api import Record
from spanweir.collector.queue.disk import Config
from spanweir.schemas.options import Size
writer = Config(directory=sys.argv[1], segment_bytes=Size(65536)).open_writer()
lock = threading.Lock()
def work(thread):
    for number in range(100000):
        body = b"%d %d " % (thread, number)
        sequence = writer.append(Record(signal="traces", received_ns=1, body=body * 50))
        with lock:
            print(sequence, thread, number, flush=True)
for thread in range(4):
    threading.Thread(target=work, args=[thread], daemon=True).start()
threading.Event().wait()
"""


def test_a_killed_writer_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    config = Config(directory=str(tmp_path / "queue"))
    acknowledged: dict[int, bytes] = {}
    for lines in (40, 7, 95):
        process = subprocess.Popen([sys.executable, "-c", WRITER, config.directory], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(lines):
            sequence, thread, number = process.stdout.readline().split()
            assert int(sequence) not in acknowledged
            acknowledged[int(sequence)] = b"%s %s " % (thread.encode(), number.encode()) * 50
        process.send_signal(signal.SIGKILL)
        # What it acknowledged between the last line read and its end counts too.
        for line in process.stdout.read().splitlines():
            if len(line.split()) == 3:
                sequence, thread, number = line.split()
                acknowledged[int(sequence)] = b"%s %s " % (thread.encode(), number.encode()) * 50
        process.wait()
    DiskWriter(config).close()
    reader = DiskReader(config, ["a"])
    there = {one.sequence: one.body for one in reader.scan()}
    assert acknowledged.items() <= there.items()
    assert sorted(there) == list(range(1, max(there) + 1))
    reader.close()
    shutil.rmtree(config.directory)
