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
    """All spans of an ExportTraceServiceRequest that protobuf accepts, in order. None: it has something rare in it.

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
