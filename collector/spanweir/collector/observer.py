"""What receivers tell, moved into counters with the Collector's names."""

from spanweir.collector.telemetry import Counters, Key, key_of

_ITEMS = {"traces": "spans", "logs": "log_records", "metrics": "metric_points"}


class CountingObserver:
    """An `Observer` of `spanweir.collector.receivers.api`. Thread-safe."""

    def __init__(self, counters: Counters) -> None:
        self._add = counters.add
        self._add_all = counters.add_all
        self._accepted: dict[tuple[str, str, str], tuple[Key, Key, Key]] = {}

    def accepted(self, signal: str, transport: str, tenant: str, items: int, size_bytes: int) -> None:
        keys = self._accepted.get((signal, transport, tenant))
        if keys is None:
            labels = _labels(transport, tenant)
            keys = self._accepted[signal, transport, tenant] = (
                key_of(f"otelcol_receiver_accepted_{_ITEMS[signal]}", **labels),
                key_of("spanweir_receiver_accepted_bytes", **labels),
                key_of("otelcol_receiver_requests", outcome="accepted", **labels),
            )
        self._add_all(zip(keys, (items, size_bytes, 1), strict=True))

    def dropped(self, signal: str, transport: str, tenant: str, items: int) -> None:
        self._add("spanweir_receiver_unrouted_items", items, signal=signal, **_labels(transport, tenant))

    def rejected(self, signal: str, transport: str, tenant: str, items: int, reason: str) -> None:
        labels = _labels(transport, tenant)
        self._add(f"otelcol_receiver_failed_{_ITEMS[signal]}", items, reason=reason, **labels)
        self._add("otelcol_receiver_requests", 1, outcome="failed", **labels)

    def refused(self, signal: str, transport: str, tenant: str, items: int, reason: str) -> None:
        labels = _labels(transport, tenant)
        self._add(f"otelcol_receiver_refused_{_ITEMS[signal]}", items, reason=reason, **labels)
        self._add("otelcol_receiver_requests", 1, outcome="refused", **labels)


def _labels(transport: str, tenant: str) -> dict[str, str]:
    return {"transport": transport, "tenant": tenant} if tenant else {"transport": transport}
