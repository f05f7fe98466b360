"""`${env:X}`, `${env:X:-default}`, `${X}`, `${file:path}`, `$$` in the scalars of a configuration.

Rules of the OpenTelemetry Collector (docs/rfcs/env-vars.md), with two differences: a variable that is unset and has
no default is an error instead of an empty value, and one newline at the end of a `${file:...}` is not part of it.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

MAX_DEPTH = 32
MAX_FILE_BYTES = 1 << 20


class Substituted(msgspec.Struct, frozen=True):
    """A scalar that was one whole `${...}`: what it is as YAML, and the text, for options that take text."""

    value: Any
    text: str


def expand(text: str, environ: Mapping[str, str] = os.environ) -> str | Substituted:
    """Substitute every reference in `text`. Raises ValueError saying what is wrong."""
    if "$" not in text:
        return text
    result, references, literal = _scan(text, environ, 0)
    if references == 1 and not literal:
        return Substituted(_as_yaml(result), result)
    return result


def _scan(text: str, environ: Mapping[str, str], depth: int) -> tuple[str, int, bool]:
    """Returns the expanded text, how many references it had, and whether anything stood beside them."""
    if depth > MAX_DEPTH:
        raise ValueError(f"references are nested more than {MAX_DEPTH} deep; does one refer to itself?")
    parts: list[str] = []
    references, literal, at = 0, False, 0
    while at < len(text):
        if text.startswith("$$", at):
            parts.append("$")
            literal, at = True, at + 2
        elif text.startswith("${", at):
            end = _closing(text, at)
            inner, _, _ = _scan(text[at + 2 : end], environ, depth + 1)
            parts.append(_resolve(inner, environ, depth))
            references, at = references + 1, end + 1
        else:
            parts.append(text[at])
            literal, at = True, at + 1
    return "".join(parts), references, literal


def _closing(text: str, start: int) -> int:
    """Index of the brace that closes the `${` at `start`."""
    depth, at = 0, start
    while at < len(text):
        if text.startswith("${", at):
            depth, at = depth + 1, at + 2
            continue
        if text[at] == "}":
            depth -= 1
            if depth == 0:
                return at
        at += 1
    raise ValueError("'${' without a closing '}'; write $$ for a literal dollar sign")


def _resolve(reference: str, environ: Mapping[str, str], depth: int) -> str:
    written = reference
    scheme, colon, rest = reference.partition(":")
    if scheme == "file" and colon:
        return _scan(_read(rest), environ, depth + 1)[0]
    if scheme == "env" and colon:
        reference = rest
    name, has_default, default = reference.partition(":-")
    if not name.isidentifier():
        raise ValueError(
            f"'${{{written}}}' is not a reference; write ${{env:NAME}}, ${{env:NAME:-default}} or ${{file:path}}"
        )
    if name in environ:
        return environ[name] or default
    if has_default:
        return default
    raise ValueError(f"environment variable {name} is not set; set it, or give a default with ${{env:{name}:-value}}")


def _read(path: str) -> str:
    try:
        data = read_at_most(path, MAX_FILE_BYTES)
    except OSError as error:
        raise ValueError(f"cannot read ${{file:{path}}}: {error.strerror}") from error
    except OverflowError as error:
        raise ValueError(f"${{file:{path}}} {error}") from error
    return data.decode(errors="replace").removesuffix("\n")


def read_at_most(path: str, limit: int) -> bytes:
    """Raises OSError, and OverflowError for more than `limit` bytes, of which no more are read: of a device never."""
    with Path(path).open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OverflowError(f"holds more than {limit} bytes; at most that many are taken")
    return data


def _as_yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
