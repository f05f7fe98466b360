"""Which records of a batch are taken in together."""

from spanweir.collector.delivery.slices import SLICE_BYTES, slices
from spanweir.collector.queue.api import Record


def records(*sizes: int, signal: str = "traces") -> list[Record]:
    return [Record(sequence=i, signal=signal, received_ns=1, body=bytes(size)) for i, size in enumerate(sizes, 1)]


def test_small_records_gather_until_a_slice_is_full() -> None:
    third = SLICE_BYTES // 3 + 1
    batch = records(third, third, third, 2 * SLICE_BYTES, 1, 1)
    assert [[r.sequence for r in some] for some in slices(batch)] == [[1, 2, 3], [4], [5, 6]]


def test_log_records_stay_with_the_spans_they_may_belong_to() -> None:
    batch = [*records(SLICE_BYTES, SLICE_BYTES), *records(10, signal="logs")]
    assert [len(some) for some in slices(batch)] == [3]


def test_nothing_is_nothing() -> None:
    assert not list(slices([]))
