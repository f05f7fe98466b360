"""Log records that instrumentations of others put content into: the policy holds for them as it does for spans.

The details records of this package (`state.emit_details`) have been through the policy already. Ordinary log lines of
the application are its own business and are not touched.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult

from spanweir.instrumentation import names, state
from spanweir.instrumentation.encode import plain
from spanweir.instrumentation.policy import Policy


class Governed(LogRecordExporter):
    """Another exporter, behind the policy. Runs in the thread that exports."""

    def __init__(self, inner: LogRecordExporter) -> None:
        self._inner = inner

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        policy = state.policy()
        if not policy.captures or policy.redact is not None:
            batch = [governed(record, policy) for record in batch]
        return self._inner.export(batch)

    def shutdown(self) -> None:
        self._inner.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        flush = getattr(self._inner, "force_flush", None)
        return flush is None or bool(flush(timeout_millis))


def governed(record: ReadableLogRecord, policy: Policy) -> ReadableLogRecord:
    """The record without the content that the policy withholds, or with what the redaction hook leaves of it."""
    scope, said = record.instrumentation_scope, record.log_record
    attributes = said.attributes or {}
    event = str(said.event_name or attributes.get("event.name") or "")
    if not event.startswith("gen_ai.") or (scope is not None and scope.name == state.SCOPE):
        return record
    kept = {key: _left(policy, key, value) if _is_content(key) else value for key, value in attributes.items()}
    changed, new = copy.copy(record), copy.copy(said)
    new.attributes = {key: value for key, value in kept.items() if value is not None}
    new.body = _left(policy, "body", said.body)
    object.__setattr__(changed, "log_record", new)
    return changed


def _is_content(key: str) -> bool:
    return key in names.CONTENT or key in names.EVENT_CONTENT or key.startswith(names.FOREIGN_CONTENT)


def _left(policy: Policy, key: str, value: Any) -> Any:
    if not policy.captures or policy.redact is None or value is None:
        return None
    try:
        return policy.redact(key, plain(dict(value) if isinstance(value, Mapping) else value))
    except Exception:  # fails closed
        return None
