"""`${...}` in a configuration: the OpenTelemetry Collector's rules."""

import re
from pathlib import Path
from typing import Any

import pytest

from spanweir.collector.config.expand import Substituted, expand

ENV = {
    "HOST": "db",
    "PORT": "5432",
    "EMPTY": "",
    "NAME": "HOST",
    "LIST": "[1, 2]",
    "SECRET": "a: b: c",
    "REF": "${HOST}",
}


@pytest.mark.parametrize(
    ("text", "value", "as_text"),
    [
        ("${env:PORT}", 5432, "5432"),
        ("${PORT}", 5432, "5432"),
        ("${env:HOST}", "db", "db"),
        ("${env:LIST}", [1, 2], "[1, 2]"),
        ("${env:MISSING:-7}", 7, "7"),
        ("${env:MISSING:-}", None, ""),
        ("${env:EMPTY:-fallback}", "fallback", "fallback"),
        ("${env:MISSING:-${env:HOST}}", "db", "db"),
        ("${env:${env:NAME}}", "db", "db"),
        ("${env:SECRET}", "a: b: c", "a: b: c"),
    ],
)
def test_a_whole_scalar_is_yaml_again_and_keeps_its_text(text: str, value: Any, as_text: str) -> None:
    assert expand(text, ENV) == Substituted(value, as_text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("postgresql://${HOST}:${env:PORT}/mlflow", "postgresql://db:5432/mlflow"),
        ("$$HOME", "$HOME"),
        ("$${HOST}", "${HOST}"),
        ("costs $5", "costs $5"),
        ("a$", "a$"),
        ("${HOST}${PORT}", "db5432"),
        ("x${env:MISSING:-}y", "xy"),
        ("${env:REF} is not expanded again", "${HOST} is not expanded again"),
    ],
)
def test_within_text_it_is_text(text: str, expected: str) -> None:
    assert expand(text, ENV) == expected


def test_files(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cr3t\n")
    (tmp_path / "port").write_text("4317")
    (tmp_path / "nested").write_text("host: ${env:HOST}\n")
    assert expand(f"${{file:{tmp_path}/token}}", {}) == Substituted("s3cr3t", "s3cr3t")
    assert expand(f"${{file:{tmp_path}/port}}", {}) == Substituted(4317, "4317")
    assert expand(f"${{file:{tmp_path}/nested}}", ENV) == Substituted({"host": "db"}, "host: db")
    assert expand("${file:${env:DIR}/port}", {"DIR": str(tmp_path)}) == Substituted(4317, "4317")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "${env:MISSING}",
            "environment variable MISSING is not set; set it, or give a default with ${env:MISSING:-value}",
        ),
        ("${env:HOST", "'${' without a closing '}'; write $$ for a literal dollar sign"),
        ("${http://x}", "'${http://x}' is not a reference; write ${env:NAME}, ${env:NAME:-default} or ${file:path}"),
        ("${file:nowhere.txt}", "cannot read ${file:nowhere.txt}: No such file or directory"),
        ("${env:A:-" * 40 + "}" * 40, "references are nested more than 32 deep; does one refer to itself?"),
    ],
)
def test_errors_say_what_to_write(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        expand(text, ENV)


def test_a_file_that_refers_to_itself_ends(tmp_path: Path) -> None:
    path = tmp_path / "loop"
    path.write_text(f"${{file:{path}}}")
    with pytest.raises(ValueError, match="does one refer to itself"):
        expand(f"${{file:{path}}}", {})


def test_a_large_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * (1 << 20) + b"x")
    with pytest.raises(ValueError, match="holds more than 1048576 bytes; at most that many are taken"):
        expand(f"${{file:{tmp_path}/big}}", {})


def test_a_file_without_end_is_not_read_to_its_end() -> None:
    with pytest.raises(ValueError, match=r"\$\{file:/dev/zero\} holds more than 1048576 bytes"):
        expand("${file:/dev/zero}", {})
