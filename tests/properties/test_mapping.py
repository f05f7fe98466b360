"""Mapping and rendering take anything, and lose nothing.

What is generated gives every leaf a value that occurs nowhere else, so "not lost" is a search: each of them must be
somewhere in the MLflow span, in its inputs, outputs or tools, or in an attribute that was kept as it was.
"""

import itertools
import json
import re
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spanweir.schemas.conventions import load
from spanweir.schemas.mapping import Mapper
from spanweir.schemas.mlflow import Renderer
from spanweir.schemas.raw import Event, RawLog, RawSpan, Resource, Scope
from spanweir.schemas.summary import request_preview, response_preview, summarise
from spanweir.schemas.values import dumps

MAPPER = Mapper()
TRACE, SPAN = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174"

KEYS = sorted(
    {rule.key for convention in load() for rule in convention.rules}
    | {pattern.replace("#", "0") + "x" for c in load() for many in c.many for pattern in many.patterns}
    | {key for convention in load() for key in convention.usage}
    | {"llm.input_messages.0.message.role", "llm.input_messages.99999999999999999999.message.role", "agno{x}.tools", ""}
)
EVENTS = sorted({name for c in load() for name in (*c.events, *c.like_span)} | {"exception", "x"})

ODD = (
    "null", "true", "123", "-5", "NaN", "1e999", "{'a': None}", "[TRUNCATED]", "<REDACTED>", '"quoted"', "\0", "[null]",
    '[{"role":"user","parts":[{"type":"text","content":"cut', '{"a":' * 300, "[" * 2000, '{"messages":[[]]}',
    '{"role":"assistant","content":{"parts":3}}', '[{"lc":1,"id":[],"kwargs":{}}]', '[["user","hi"]]',
    '{"a":"\\ud800"}',
    '{"choices":[{"message":7}],"usage":{"prompt_tokens":-1}}', '[{"type":"image","source":{"data":1}}]',
)  # fmt: skip
odd_text = st.one_of(st.text(max_size=40), st.sampled_from(ODD))
leaf = st.one_of(odd_text, st.integers(), st.floats(), st.booleans(), st.none(), st.binary(max_size=8))
MEMBERS = (
    "role", "content", "parts", "type", "text", "id", "tool_calls", "function", "name", "data", "message", "messages",
    "choices", "input", "output", "kwargs", "usage", "metadata", "documents", "toolUse", "functionCall", "image_url",
    "source", "lc", "kind", "part_kind", "generations", "response", "arguments", "query", "score", "page_content",
)  # fmt: skip
value = st.recursive(
    leaf,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(MEMBERS),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)
as_text = value.map(dumps)
attributes = st.dictionaries(
    st.one_of(st.sampled_from(KEYS), st.text(max_size=12)), st.one_of(value, as_text, st.lists(as_text)), max_size=12
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(attributes, st.lists(st.tuples(st.sampled_from(EVENTS), attributes), max_size=3), value, st.integers(-3, 9))
def test_nothing_raises(given: dict[str, Any], events: list[tuple[str, dict[str, Any]]], body: Any, code: int) -> None:
    raw = RawSpan(
        trace_id=TRACE,
        span_id=SPAN,
        attributes=given,
        events=[Event(name=name, attributes=at) for name, at in events],
        status_code=code,
        kind=code,
        resource=Resource(attributes=given),
        scope=Scope(name="x", attributes=given),
    )
    logs = [RawLog(trace_id=TRACE, span_id=SPAN, event_name=name, body=body, attributes=at) for name, at in events]
    renderer = Renderer()
    span = MAPPER._map(raw, logs)
    assert span is None or not [flag for flag in span.flags if flag.startswith("failed")]
    mapped = renderer._render(raw, span)
    summarise(raw, span, mapped)
    request_preview(span, mapped)
    response_preview(span, mapped)
    json.loads(mapped.content)
    for text in mapped.attributes.values():
        json.loads(text)
    msgspec.json.encode(span, enc_hook=str)


# ------------------------------------------------------------------------------------------------ nothing is lost


class Leaves:
    """Values that occur nowhere else."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self.made: list[str] = []

    def __call__(self) -> str:
        self.made.append(f"leaf{next(self._numbers)}é")
        return self.made[-1]


Draw = Callable[[st.SearchStrategy[Any]], Any]


PARTS = (
    "text", "reasoning", "tool_call", "tool_call_response", "blob", "uri", "file", "refusal", "server_tool_call",
    "server_tool_call_response", "compaction", "citation",
)  # fmt: skip


def _part(draw: Draw, new: Leaves) -> dict[str, Any]:
    kinds = [
        "text",
        "reasoning",
        "tool_call",
        "tool_call_response",
        "blob",
        "uri",
        "file",
        "refusal",
        "server_tool_call",
    ]
    kind = draw(st.sampled_from([*kinds, "server_tool_call_response", "compaction", "citation"]))
    part: dict[str, Any] = {"type": kind}
    if kind in ("text", "reasoning", "refusal", "compaction"):
        part["content"] = new()
    elif kind == "tool_call":
        part |= {"id": new(), "name": new(), "arguments": {new(): [new(), {"n": new()}]}}
    elif kind == "tool_call_response":
        part |= {"id": new(), "response": new() if draw(st.booleans()) else {new(): [new()]}}
    elif kind == "blob":
        part |= {"content": new(), "modality": "image", "mime_type": draw(st.sampled_from(["image/png", "audio/wav"]))}
    elif kind == "uri":
        part |= {"uri": f"https://x.test/{new()}", "modality": draw(st.sampled_from(["image", "document"]))}
    elif kind == "file":
        part |= {"file_id": new(), "modality": "document"}
    elif kind.startswith("server"):
        part |= {"id": new(), "name": new(), kind: {"type": "code", new(): new()}}
    else:
        part[new()] = new()
    if draw(st.booleans()):
        part[draw(st.sampled_from(["cache_control", "annotations", "x"]))] = {"y": new()}
    return part


def _message(draw: Draw, new: Leaves) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": draw(st.sampled_from(["user", "assistant", "tool", "system", "developer", "critic"])),
        "parts": [_part(draw, new) for _ in range(draw(st.integers(0, 3)))],
    }
    if draw(st.booleans()):
        message["name"] = new()
    if draw(st.booleans()):
        message["extra"] = {"deep": [new()]}
    return message


def _openinference(draw: Draw, new: Leaves) -> dict[str, Any]:
    found: dict[str, Any] = {"openinference.span.kind": "LLM", "llm.model_name": new()}
    for index in draw(st.lists(st.integers(0, 120), unique=True, max_size=4)):
        base = f"llm.input_messages.{index}.message."
        found[base + "role"] = draw(st.sampled_from(["user", "assistant", "tool"]))
        for name in draw(st.lists(st.sampled_from(["content", "name", "tool_call_id", "unknown"]), unique=True)):
            found[base + name] = new()
        for call in range(draw(st.integers(0, 2))):
            start = f"{base}tool_calls.{call}.tool_call."
            found |= {start + "id": new(), start + "function.name": new()}
            found[start + "function.arguments"] = json.dumps({new(): new()})
        for part in range(draw(st.integers(0, 2))):
            start = f"{base}contents.{part}.message_content."
            found |= {start + "type": "text", start + "text": new()}
    for index in range(draw(st.integers(0, 2))):
        start = f"retrieval.documents.{index}.document."
        found |= {start + "content": new(), start + "id": new(), start + "metadata": json.dumps({new(): new()})}
        found[start + draw(st.sampled_from(["url", "name", "mime_type", "unknown"]))] = new()
    return found


@st.composite
def spans(draw: Draw) -> tuple[dict[str, Any], list[str]]:
    new = Leaves()
    family = draw(st.sampled_from(["otel_genai", "openinference", "mlflow", "tool", "retrieval", "both"]))
    found: dict[str, Any] = {}
    if family in ("otel_genai", "both"):
        found["gen_ai.operation.name"] = draw(st.sampled_from(["chat", "invoke_agent", "execute_tool", "plan"]))
        for name in draw(st.lists(st.sampled_from(["gen_ai.input.messages", "gen_ai.output.messages"]), unique=True)):
            found[name] = json.dumps([_message(draw, new) for _ in range(draw(st.integers(1, 3)))])
        found["gen_ai.system_instructions"] = json.dumps([_part(draw, new)])
        tool = {"type": "function", "name": new(), "description": new(), "parameters": {"properties": {new(): {}}}}
        found["gen_ai.tool.definitions"] = json.dumps(
            [tool, {"type": "extension", "name": new(), "config": {"z": new()}}]
        )
    if family in ("openinference", "both"):
        found |= _openinference(draw, new)
    if family == "mlflow":
        found |= {"mlflow.spanType": '"LLM"', "mlflow.spanInputs": json.dumps({"q": [new()]})}
        found["mlflow.spanOutputs"] = json.dumps(new())
    if family == "tool":
        found |= {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.arguments": json.dumps({new(): new()})}
        found |= {"gen_ai.tool.call.result": new(), "gen_ai.tool.name": new(), "gen_ai.tool.call.id": new()}
    if family == "retrieval":
        doc = {"id": new(), "content": new(), "score": 0.25, "metadata": {new(): new()}, "more": {"a": new()}}
        found |= {"gen_ai.operation.name": "retrieval", "gen_ai.retrieval.documents": json.dumps([doc])}
    found["input.value"] = json.dumps({"whole": new()})
    found[draw(st.sampled_from(["custom.key", "gen_ai.prompt.0.x", "metadata", "gen_ai.usage.input_tokens"]))] = new()
    return found, new.made


@settings(max_examples=150, deadline=None)
@given(spans())
def test_nothing_is_lost(case: tuple[dict[str, Any], list[str]]) -> None:
    given, made = case
    raw = RawSpan(trace_id=TRACE, span_id=SPAN, attributes=given)
    mapped = Renderer().render(raw, MAPPER.map(raw))
    # What is kept as it was may hold escapes, and JSON within JSON is escaped again.
    stored = re.sub(r"\\+u00e9", "é", mapped.content.decode())
    assert [leaf for leaf in made if leaf not in stored] == []
