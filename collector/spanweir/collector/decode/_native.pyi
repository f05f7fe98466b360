from collections.abc import Callable

from spanweir.schemas.raw import RawLog, RawSpan, Resource, Scope

SOURCE: str
"""SHA-256 of the C source this was compiled of."""

def spans(
    body: bytes,
    resource_of: Callable[[bytes | None, str], Resource],
    scope_of: Callable[[bytes | None, str], Scope],
    flag: Callable[[RawSpan, int], None],
    /,
) -> list[RawSpan] | None:
    """All spans of an ExportTraceServiceRequest, in order. None: it has something rare in it, or protobuf refuses it.

    `resource_of` and `scope_of` are given a submessage as it was sent, or None, and the URL of its schema. `flag` is
    given a span whose ids are invalid or whose keys stand twice, and the number of its attributes as they were sent.
    """

def logs(
    body: bytes,
    resource_of: Callable[[bytes | None, str], Resource],
    scope_of: Callable[[bytes | None, str], Scope],
    flag: Callable[[RawLog, int], None],
    /,
) -> list[RawLog] | None:
    """As `spans`, of an ExportLogsServiceRequest. `flag` is given a record whose keys stand twice."""

def count_spans(body: bytes, /) -> int | None:
    """How many spans an ExportTraceServiceRequest has. None where protobuf might refuse it, or where a span has no
    trace id of 16 bytes, or no span id of 8, that is not all zeros."""

def count_logs(body: bytes, /) -> int | None:
    """How many log records an ExportLogsServiceRequest has. None where protobuf might refuse it."""
