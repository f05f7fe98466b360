"""Queue records that go through all stages together, as parts of a batch."""

from collections.abc import Iterator, Sequence

from spanweir.collector.queue.api import Record

SLICE_BYTES = 128 * 1024


def slices(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """Records that go through all steps together: what a step has made is then still in the processor's cache at the
    next one. With log records among them they stay together: these are joined to
    spans of requests behind them, which would be mapped twice otherwise."""
    if any(record.signal == "logs" for record in records):
        yield records
        return
    start = size = 0
    for i, record in enumerate(records, 1):
        size += len(record.body)
        if size >= SLICE_BYTES:
            yield records[start:i]
            start, size = i, 0
    if start < len(records):
        yield records[start:]
