"""Rows of the payload table: one a trace, with the MLflow trace under `databricks_output.trace` of the response.

Spans stand in it as the bytes that were rendered for them; they are neither decoded nor encoded here.
Source of the trace's shape: `Trace.to_dict()` of MLflow 3.17 (`entities/trace.py`, `entities/trace_info.py`).
"""

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

import msgspec
import orjson

from spanweir.exporters.delta.cells import DAY_NS, dump
from spanweir.schemas.inference_table import PAYLOAD, REQUEST_TOO_LARGE, RESPONSE_TOO_LARGE
from spanweir.schemas.trace import Assessment, MappedSpan, TokenUsage, TraceRow

TRACE_PREFIX: Final = "tr-"
_TOKENS: Final = TokenUsage.__struct_fields__
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DATE: Final = date(1970, 1, 1)
_STATUS_OK: Final = 200
_STATUS_ERROR: Final = 500


class Facts(msgspec.Struct, frozen=True):
    """What a row takes from the root span as it was sent."""

    status_code: int | None = None
    sampling_fraction: float = 1.0
    service_name: str | None = None


class Content(msgspec.Struct):
    """A span's rendered content, and its start for the order of spans in a trace."""

    start_ns: int
    content: bytes
    facts: Facts | None = None
    """Of a root."""


Contents = dict[str, Content]
"""Span id -> content."""
Spans = Mapping[str, "Content | MappedSpan"]
"""Span id -> what has the content and the start."""


class Stored(msgspec.Struct):
    """What a row that was written before holds."""

    contents: Contents = {}
    request: bytes | None = None
    response: bytes | None = None
    """Without `databricks_output`."""


_NO_FACTS: Final = Facts()


class Payload(msgspec.Struct):
    """One row. `overflow` holds what was too large to stand in it, file name to content."""

    request_id: str
    row: tuple[Any, ...]
    size_bytes: int
    """Of its texts."""
    overflow: dict[str, bytes] = {}

    @property
    def day(self) -> int:
        """Day of its partition, since 1970."""
        day: int = self.row[1]
        return day


def content(span: MappedSpan) -> Content:
    """What is kept of a span until its trace is complete."""
    return Content(span.start_ns, span.content, _facts(span))


def _facts(span: Content | MappedSpan) -> Facts | None:
    if isinstance(span, Content):
        return span.facts
    if span.parent_id is not None:
        return None
    raw = span.raw
    service = raw.resource.attributes.get("service.name")
    return Facts(
        _http_status(raw.attributes), _sampling_fraction(raw.trace_state), service if isinstance(service, str) else None
    )


def trace_metadata(trace: TraceRow) -> dict[str, str]:
    """`trace_metadata` of the trace: the row's own metadata, and MLflow's keys for what the row has as fields."""
    result: dict[str, str] = {}
    if trace.session_id:
        result["mlflow.trace.session"] = trace.session_id
    if trace.user_id:
        result["mlflow.trace.user"] = trace.user_id
    if trace.run_id:
        result["mlflow.sourceRun"] = trace.run_id
    if trace.model_id:
        result["mlflow.modelId"] = trace.model_id
    if trace.usage is not None:
        usage = [f'"{name}":{value}' for name in _TOKENS if (value := getattr(trace.usage, name)) is not None]
        result["mlflow.trace.tokenUsage"] = f"{{{','.join(usage)}}}"
    if trace.cost is not None:
        cost = trace.cost
        result["mlflow.trace.cost"] = orjson.dumps(
            {"input_cost": cost.input_cost, "output_cost": cost.output_cost, "total_cost": cost.total_cost}
        ).decode()
    result.update(trace.metadata)
    return result


def trace_tags(trace: TraceRow) -> dict[str, str]:
    return {"mlflow.traceName": trace.name, **trace.tags} if trace.name else trace.tags


def info(trace: TraceRow, metadata: dict[str, str], tags: dict[str, str]) -> dict[str, Any]:
    """`TraceInfo.to_dict()`."""
    result: dict[str, Any] = {"trace_id": TRACE_PREFIX + trace.trace_id}
    if trace.client_request_id:
        result["client_request_id"] = trace.client_request_id
    result["trace_location"] = {
        "type": "MLFLOW_EXPERIMENT",
        "mlflow_experiment": {"experiment_id": trace.experiment or "0"},
    }
    if trace.request_preview is not None:
        result["request_preview"] = trace.request_preview
    if trace.response_preview is not None:
        result["response_preview"] = trace.response_preview
    result["request_time"] = timestamp(trace.start_ns)
    result["state"] = trace.state
    result["trace_metadata"] = metadata
    result["tags"] = tags
    if trace.assessments:
        result["assessments"] = [assessment(a, trace) for a in trace.assessments]
    if trace.end_ns is not None:
        result["execution_duration_ms"] = (trace.end_ns - trace.start_ns) // 1_000_000
    return result


def timestamp(time_ns: int) -> str:
    """RFC 3339 with milliseconds where there are any, as protobuf's JSON writes a Timestamp of milliseconds."""
    seconds, ms = divmod(time_ns // 1_000_000, 1000)
    return f"{_second(seconds)}.{ms:03d}Z" if ms else f"{_second(seconds)}Z"


@lru_cache(maxsize=64)  # traces come in the order of time, more or less
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]


def assessment(a: Assessment, trace: TraceRow) -> dict[str, Any]:
    """`Assessment.to_dictionary()`."""
    time = timestamp(a.created_ms * 1_000_000)
    result: dict[str, Any] = {
        "assessment_id": a.assessment_id,
        "assessment_name": a.name,
        "trace_id": TRACE_PREFIX + trace.trace_id,
        "source": {"source_type": a.source_type, "source_id": a.source_id or "default"},
        "create_time": time,
        "last_update_time": time,
    }
    if a.metadata:
        result["metadata"] = a.metadata
    if a.span_id:
        result["span_id"] = a.span_id
    if a.rationale is not None:
        result["rationale"] = a.rationale
    value: dict[str, Any] = {"value": orjson.Fragment(a.value)}
    if a.kind == "expectation":
        if a.value[:1] in ("{", "["):
            value = {"serialized_value": {"serialization_format": "JSON_FORMAT", "value": a.value}}
        result["expectation"] = value
        return result
    if a.error:
        value["error"] = {"error_code": "ASSESSMENT_ERROR", "error_message": a.error}
    result["feedback"] = value
    result["valid"] = True
    return result


def assessed(content: Mapping[str, Any]) -> Any:
    """The value in the `feedback` or `expectation` of an `Assessment.to_dictionary()`."""
    serialized = content.get("serialized_value")
    return orjson.loads(serialized["value"]) if serialized else content.get("value")


def response_parts(response: bytes | None, request_id: str, trace_info: dict[str, Any], spans: Spans) -> list[bytes]:
    """The response with `Trace.to_dict()` spliced in, spans in the order of their start; in parts, none of them moved.

    A response that is no JSON object stands under `predictions`, as MLflow's scoring server has it.
    """
    body = (response or b"").strip()
    if body[:1] == b"{" and body[-1:] == b"}":
        head = body[:-1].rstrip()
        parts = [head, b"" if head == b"{" else b","]
    else:
        parts = [b'{"predictions":', body, b","] if body else [b"{"]
    parts += (b'"databricks_output":{"trace":{"info":', dump(trace_info), b',"data":{"spans":[')
    contents = [b","] * (2 * len(spans) - 1)
    contents[::2] = [span.content for span in sorted(spans.values(), key=_start)]
    parts += contents
    parts += (b']}},"databricks_request_id":"', request_id.encode(), b'"}}')
    return parts


_start: Final = attrgetter("start_ns")


def payload(
    trace: TraceRow, metadata: dict[str, str], tags: dict[str, str], spans: Spans, before: Stored, *, limit: int
) -> Payload:
    """The row of a complete trace.

    `before` is the row as it stands: of an amended trace the request and response may not be at hand any more.
    `limit` is the most bytes of `request` and of `response` each; 0 is no limit.
    """
    request_id = TRACE_PREFIX + trace.trace_id
    facts = next(filter(None, map(_facts, spans.values())), _NO_FACTS)
    body = before.response if trace.response is None and trace.response_preview else trace.response
    response = response_parts(body, request_id, info(trace, metadata, tags), spans)
    response_bytes = sum(map(len, response))
    request = before.request if trace.request is None and trace.request_preview else trace.request
    codes: list[str] = []
    overflow: dict[str, bytes] = {}
    if limit and request is not None and len(request) > limit:
        codes.append(REQUEST_TOO_LARGE)
        overflow[f"{request_id}.request.json"] = request
        request = None
    too_large = bool(limit) and response_bytes > limit
    if too_large:
        codes.append(RESPONSE_TOO_LARGE)
        overflow[f"{request_id}.response.json"] = b"".join(response)
    status = facts.status_code or (_STATUS_ERROR if trace.state == "ERROR" else _STATUS_OK)
    row = (
        request_id,
        trace.start_ns // DAY_NS,
        trace.client_request_id,
        trace.start_ns // 1000,
        status,
        facts.sampling_fraction,
        None if trace.end_ns is None else (trace.end_ns - trace.start_ns) // 1_000_000,
        request,
        None if too_large else response,
        codes,
        trace.model_id or facts.service_name,
        trace.user_id,
    )
    return Payload(request_id, row, len(request or b"") + (0 if too_large else response_bytes), overflow)


def rewritten(row: Mapping[str, Any], response: bytes, *, limit: int) -> Payload:
    """A row as it was read (Python values by column), with another response."""
    request_id = row["databricks_request_id"]
    codes = [code for code in row["logging_error_codes"] or () if code != RESPONSE_TOO_LARGE]
    too_large = bool(limit) and len(response) > limit
    overflow = {f"{request_id}.response.json": response} if too_large else {}
    changed = {
        "request_date": (row["request_date"] - _EPOCH_DATE).days,
        "request_time": (row["request_time"] - _EPOCH) // timedelta(microseconds=1),
        "response": None if too_large else response.decode(),
        "logging_error_codes": [*codes, RESPONSE_TOO_LARGE] if too_large else codes,
    }
    values = tuple(changed.get(name, row[name]) for name, _ in PAYLOAD.columns)
    return Payload(request_id, values, len(row["request"] or "") + (0 if too_large else len(response)), overflow)


def columns(payloads: Sequence[Payload]) -> list[tuple[Any, ...]]:
    """Those of the table."""
    return list(zip(*[p.row for p in payloads], strict=True))


class _Data(msgspec.Struct):
    spans: list[msgspec.Raw]


class _Trace(msgspec.Struct):
    data: _Data


class _Output(msgspec.Struct):
    trace: _Trace


class _SpanKey(msgspec.Struct):
    span_id: str
    start_time_unix_nano: int = 0


_OUTPUT: Final = "databricks_output"
_decode_response = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_output = msgspec.json.Decoder(_Output).decode
_decode_span_key = msgspec.json.Decoder(_SpanKey).decode


def stored(request: bytes | str | None, response: bytes | str) -> Stored:
    """The parts of a row, as the bytes that stand in it. Raises ValueError if the response holds no trace."""
    parts = _decode_response(response)
    output = parts.pop(_OUTPUT, None)
    if output is None:
        raise ValueError(f"no {_OUTPUT} in the response")
    contents: Contents = {}
    for raw in _decode_output(output).trace.data.spans:
        content = bytes(raw)
        key = _decode_span_key(content)
        contents[span_hex(key.span_id)] = Content(key.start_time_unix_nano, content)
    body = None
    if parts:
        predictions = parts.get("predictions")
        whole = msgspec.json.encode(parts)
        body = bytes(predictions) if predictions is not None and len(parts) == 1 and _no_object(predictions) else whole
    return Stored(contents, request.encode() if isinstance(request, str) else request, body)


def _no_object(raw: msgspec.Raw) -> bool:
    return bytes(raw)[:1] != b"{"


def span_hex(span_id: str) -> str:
    """MLflow writes ids in base64; hex is what everyone else uses."""
    return base64.b64decode(span_id).hex()


def _sampling_fraction(trace_state: str) -> float:
    """From the OpenTelemetry consistent-probability threshold `ot=th:…` of a trace state; 1 without one."""
    for member in trace_state.split(","):
        vendor, _, value = member.strip().partition("=")
        if vendor != "ot":
            continue
        for field in value.split(";"):
            name, _, threshold = field.partition(":")
            if name == "th" and 0 < len(threshold) <= 14:
                try:
                    return 1.0 - int(threshold.ljust(14, "0"), 16) / (1 << 56)
                except ValueError:
                    return 1.0
    return 1.0


def _http_status(attributes: Mapping[str, Any]) -> int | None:
    status = attributes.get("http.response.status_code", attributes.get("http.status_code"))
    return status if isinstance(status, int) and 100 <= status < 600 else None
