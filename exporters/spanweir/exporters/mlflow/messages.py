"""Messages between this process and those that run MLflow: MessagePack, each after its length in four bytes."""

import struct
import subprocess
from typing import IO, Final

import msgspec

_LENGTH: Final = struct.Struct(">I")
_STOP_S: Final = 10.0


def send(stream: IO[bytes], message: msgspec.Struct) -> None:
    encoded = msgspec.msgpack.encode(message)
    stream.write(_LENGTH.pack(len(encoded)))
    stream.write(encoded)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes | None:
    """The next message, or None at the end."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    body = stream.read(length)
    return body if len(body) == length else None


def end(process: "subprocess.Popen[bytes]") -> None:
    """Let a process end that is asked through its standard input; one that does not is killed."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
