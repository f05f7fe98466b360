"""Times that cannot be: repaired and flagged in `RawSpan.issues`. A span without an end is running, not broken."""

import msgspec

from spanweir.schemas.raw import RawSpan


def times_of(raw: RawSpan) -> RawSpan:
    """The span with a start, and an end (if it has one) that is not before it; the same object if nothing is wrong."""
    start, end, issues = raw.start_ns, raw.end_ns, raw.issues
    if not start and end:
        start, issues = end, (*issues, "no_start")
    if end and end < start:
        end, issues = start, (*issues, "end_before_start")
    if issues is raw.issues:
        return raw
    return msgspec.structs.replace(raw, start_ns=start, end_ns=end, issues=issues)
