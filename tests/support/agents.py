"""Coding agents' records in short form, and what `Agents` makes of them.

A record is an object: spans have `trace`, `span`, `parent`, `name`, `at` and `end` (milliseconds), `attributes`,
`events`, `status`; logs have `event` (the attribute `event.name`), `at`, `attributes` and, where the sender gives them,
`trace` and `span`. Ids are short and repeated to their length. `scope` and `resource` stand once in a file.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue

from spanweir.schemas.agents import Agents, Limits
from spanweir.schemas.raw import Event, RawLog, RawSpan, Resource, Scope

SECOND = 1_000_000_000
BASE_NS = 1_790_000_000 * SECOND
SHOWN = ("gen_ai.", "session.id", "user.id", "error.", "spanweir.")

Record = RawSpan | RawLog
Stored = dict[tuple[str, str], RawSpan]


def trace_id(short: str) -> str:
    return (short * 32)[:32] if short else ""


def span_id(short: str) -> str:
    return (short * 16)[:16] if short else ""


def records(case: dict[str, Any]) -> list[Record]:
    """The records of a case, in the order sent."""
    resource = Resource(attributes=case.get("resource", {}))
    scopes: dict[str, Scope] = {}
    made: list[Record] = []
    for entry in case["records"]:
        name = entry.get("scope", case["scope"])
        scope = scopes.setdefault(name, Scope(name=name))
        given = {**case.get("attributes", {}), **entry.get("attributes", {})}
        attributes = {key: json.dumps(v) if isinstance(v, (dict, list)) else v for key, v in given.items()}
        for key in entry.get("lists", {}):
            attributes[key] = entry["lists"][key]
        ours = Resource(attributes={**resource.attributes, **entry["resource"]}) if "resource" in entry else resource
        if "event" in entry:
            made.append(_log(entry, attributes, ours, scope))
        else:
            made.append(_span(entry, attributes, ours, scope))
    return made


def _log(entry: dict[str, Any], attributes: dict[str, Any], resource: Resource, scope: Scope) -> RawLog:
    return RawLog(
        trace_id=trace_id(entry.get("trace", "")),
        span_id=span_id(entry.get("span", "")),
        time_ns=BASE_NS + int(entry["at"] * 1e6),
        attributes={"event.name": entry["event"], **attributes},
        resource=resource,
        scope=scope,
    )


def _span(entry: dict[str, Any], attributes: dict[str, Any], resource: Resource, scope: Scope) -> RawSpan:
    return RawSpan(
        trace_id=trace_id(entry["trace"]),
        span_id=span_id(entry["span"]),
        parent_id=span_id(entry.get("parent", "")),
        name=entry["name"],
        kind=1,
        start_ns=BASE_NS + int(entry["at"] * 1e6),
        end_ns=BASE_NS + int(entry["end"] * 1e6),
        attributes=attributes,
        events=[Event(name=e["name"], attributes=e.get("attributes", {})) for e in entry.get("events", [])],
        status_code=entry.get("status", 0),
        status_message=entry.get("message", ""),
        resource=resource,
        scope=scope,
    )


class Replay:
    """Feeds records to `Agents` as the delivery does, and keeps what would be stored."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.agents = Agents(limits)
        self.now_ns = BASE_NS
        self.stored: Stored = {}
        self.passed: list[Record] = []
        self.emitted = 0
        self.retracted = 0
        self.sequence = 0

    def put(self, batch: list[Record]) -> None:
        """One request (spans and logs come in requests of their own)."""
        self.sequence += 1
        spans = [record for record in batch if isinstance(record, RawSpan)]
        logs = [record for record in batch if isinstance(record, RawLog)]
        self.passed += self.agents.spans(spans, self.now_ns, self.sequence)
        self.passed += self.agents.logs(logs, self.now_ns, self.sequence)

    def wait(self, seconds: float) -> None:
        self.now_ns += int(seconds * SECOND)
        self.store(self.agents.tick(self.now_ns))

    def store(self, spans: list[RawSpan]) -> None:
        for key in self.agents.retractions():
            self.stored.pop(key, None)
            self.retracted += 1
        for span in spans:
            self.stored[(span.trace_id, span.span_id)] = span
            self.emitted += 1

    def finish(self) -> "Replay":
        self.wait(20)
        return self


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def shown(stored: Stored) -> list[dict[str, Any]]:
    """Traces as trees of what tests look at: names, times, status, `gen_ai` attributes with JSON text read."""
    traces: dict[str, list[RawSpan]] = {}
    for span in stored.values():
        traces.setdefault(span.trace_id, []).append(span)
    ordered = sorted(traces.values(), key=lambda spans: (min(s.start_ns for s in spans), spans[0].trace_id))
    return [{"trace_id": spans[0].trace_id, "spans": _level(spans, None)} for spans in ordered]


def _level(spans: list[RawSpan], parent: str | None) -> list[dict[str, Any]]:
    known = {span.span_id for span in spans}
    level = [s for s in spans if (s.parent_id == parent if parent else s.parent_id not in known)]
    return [_shown(span, spans) for span in sorted(level, key=lambda s: (s.start_ns, s.end_ns, s.span_id))]


def _shown(span: RawSpan, spans: list[RawSpan]) -> dict[str, Any]:
    made: dict[str, Any] = {"name": span.name, "span_id": span.span_id}
    if span.parent_id and not any(other.span_id == span.parent_id for other in spans):
        made["parent_elsewhere"] = span.parent_id
    made["ms"] = [(at - BASE_NS) / 1e6 for at in (span.start_ns, span.end_ns)]
    if span.status_code:
        made["status"] = [span.status_code, span.status_message]
    made["attributes"] = {k: _read(v) for k, v in sorted(span.attributes.items()) if k.startswith(SHOWN)}
    if children := _level(spans, span.span_id):
        made["children"] = children
    return made


def _read(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value


def logs_request(logs: Iterable[RawLog]) -> bytes:
    """An ExportLogsServiceRequest with the records; attributes of plain values and lists of text."""
    request = ExportLogsServiceRequest()
    for log in logs:
        resource = request.resource_logs.add()
        resource.resource.attributes.extend(_pairs(log.resource.attributes))
        scope = resource.scope_logs.add()
        scope.scope.name = log.scope.name
        record = scope.log_records.add(time_unix_nano=log.time_ns)
        record.trace_id, record.span_id = bytes.fromhex(log.trace_id), bytes.fromhex(log.span_id)
        record.attributes.extend(_pairs(log.attributes))
    return request.SerializeToString()


def _pairs(attributes: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in attributes.items()]


def _value(value: Any) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=[_value(one) for one in value]))
    return AnyValue(string_value=str(value))
