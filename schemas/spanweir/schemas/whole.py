"""What an undivided input or output (`io`) of a span holds, by the span's kind: messages, tools, documents, arguments.

Senders that divide their inputs into attributes often put the whole call into one more; what the divided form lacks
(finish reasons, a response's id, tools, ids of documents) is taken from there.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from spanweir.schemas import content, langchain, usage
from spanweir.schemas.genai import (
    GenAISpan,
    Message,
    Other,
    Response,
    Retrieval,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
)
from spanweir.schemas.notes import Notes, first
from spanweir.schemas.paths import fill_field, is_empty
from spanweir.schemas.values import UNREADABLE, Broken, loads, plain


def read_whole(span: GenAISpan, notes: Notes) -> None:
    """Complete `span` in place from `span.io`."""
    lossy = notes.lossy
    kind = span.kind
    if kind == "llm":
        _request(span, notes)
        _response(span, notes)
    elif kind == "tool":
        _tool(span, notes)
    elif kind in ("retrieval", "rerank"):
        _retrieval(span, notes)
    elif kind == "embedding":
        _embedding(span, notes)
    elif span.system and not span.input:
        _request(span, notes)  # instructions are not all that an agent was given
    notes.lossy = lossy


def _mentions(value: Any, name: str) -> bool:
    """Whether JSON has a member of this name, at a glance."""
    if value.__class__ is msgspec.Raw:
        return f'"{name}"'.encode() in bytes(value)
    return isinstance(value, dict) and name in value


def _request(span: GenAISpan, notes: Notes) -> None:
    io = span.io
    if io is None or io.input is None:
        return
    hollow = partial = False
    if span.input:
        hollow, results, understood = _glance(span.input)
        body = bytes(io.input) if io.input.__class__ is msgspec.Raw else b""
        partial = not hollow and bool(body) and _lacks(span, body, results, understood)
        if not hollow and not partial:
            offers = b'"tools"' in body if body else _mentions(io.input, "tools")
            if span.tools or not offers:
                return
    given = plain(io.input)
    fields = content.request(_uncut(given), notes) or {}
    if isinstance(given, str) and not fields.get("input"):
        fields = {"input": [Message("user", [Text(given)])]}
    found: list[Message] = fields.get("input") or []
    if found and not any(message.role in _LEADING for message in found):
        # Anthropic's and Gemini's requests have instructions beside the messages.
        found = [message for message in span.input if message.role in _LEADING] + found
    if found and len(found) >= len(span.input):
        filled = hollow and all(message.parts for message in found)
        if filled or (partial and len(found) == len(span.input) and _parts(found) > _parts(span.input)):
            span.input = found
            notes.taken.pop("input", None)
    if any(message.role in _LEADING for message in span.input):
        fields.pop("system", None)
    _fill(span, fields)


_LEADING = ("system", "developer")


def _uncut(value: Any) -> Any:
    """What can be read of JSON objects that were cut short (limits on attributes); None for all other text."""
    if not isinstance(value, str):
        return value
    try:
        found = loads(value) if value[:1] in ("{", "[") else None
    except ValueError:
        return None
    if not isinstance(found, Broken) or found.how != "truncated":
        return None
    objects = found.value if isinstance(found.value, list) else [found.value]
    return found.value if objects and all(isinstance(item, dict) for item in objects) else None


def _glance(said: list[Message]) -> tuple[bool, int, bool]:
    """Whether messages are hollow (one says nothing; or tools' results without calls, as of OpenInference's LangChain
    of before 0.1.40 with Anthropic), how many results of tools are in them, and whether all parts were understood."""
    empty = answers = called = False
    understood = True
    results = 0
    for message in said:
        if not message.parts:
            empty = True
        if message.role == "tool":
            answers = True
        for part in message.parts:
            kind = part.__class__
            if kind is Text:
                continue
            if kind is ToolCall:
                called = True
            elif kind is ToolResult:
                results += 1
            elif kind is Other:
                understood = False
    return empty or (answers and not called), results, understood


def _lacks(span: GenAISpan, body: bytes, results: int, understood: bool) -> bool:
    """Whether a request has instructions, results of tools or images that the messages read from other attributes lack.

    OpenInference's instrumentation of Anthropic's SDK for JavaScript 0.2 flattens no instructions, no image's data, and
    of several results in one message only the last.
    """
    if not understood:
        return True
    if not span.system and span.input[0].role not in ("system", "developer") and b'"system":' in body:
        return True
    return body.count(b'"tool_result"') > results


def _parts(messages: list[Message]) -> int:
    """How many parts were understood."""
    return sum(part.__class__ is not Other for message in messages for part in message.parts)


def _response(span: GenAISpan, notes: Notes) -> None:
    io = span.io
    if io is None or io.output is None:
        return
    response = span.response
    several = span.params is not None and span.params.n is not None and len(span.output) < span.params.n
    # A message that is only a role: OpenInference's LangChain of before 0.1.40 leaves out the tools that are called.
    several = several or any(not message.parts for message in span.output)
    if span.output and not several and response is not None and response.id and response.finish_reasons:
        return
    if span.output and not several and span.usage is not None and (outline := _outline(io.output)) is not None:
        counts = outline.pop("usage")
        if _lacks_details(span.usage):
            _details(span, usage.from_object(counts))
        _fill(span, outline)
        return
    said = plain(io.output)
    counted = span.usage is not None and not _lacks_details(span.usage)
    fields = content.response(_uncut(said), notes, counted=counted) or {}
    if isinstance(said, str) and said and not any(message.parts for message in fields.get("output") or ()):
        fields = {"output": [Message("assistant", [Text(said)])]}
    found: list[Message] = fields.pop("output", [])
    more = several and _says_more(found, span.output)
    if found and (not span.output or more or _adds_calls(found, span.output)):
        span.output = found
        notes.taken.pop("output", None)
    elif found and (response is None or not response.finish_reasons):
        reasons = [message.finish_reason for message in found if message.finish_reason]
        if reasons and not any(message.finish_reason for message in span.output):
            span.response = response = response or Response()
            response.finish_reasons = reasons
    _details(span, fields.get("usage"))
    _fill(span, fields)


def _says_more(found: list[Message], said: list[Message]) -> bool:
    """Whether `found` has more answers, or as many of which more say something."""
    return (len(found), sum(bool(m.parts) for m in found)) > (len(said), sum(bool(m.parts) for m in said))


def _calls(said: list[Message]) -> int:
    return sum(part.__class__ is ToolCall for message in said for part in message.parts)


def _adds_calls(found: list[Message], said: list[Message]) -> bool:
    """Whether `found` has all that was said, and calls of tools besides."""
    parts = [part for message in found for part in message.parts]
    return _calls(found) > _calls(said) and all(part in parts for message in said for part in message.parts)


def _details(span: GenAISpan, reported: Usage | None) -> None:
    """The cache and reasoning tokens of the response itself, where the attributes count only input and output."""
    known = span.usage
    if known is None or reported is None or known.output != reported.output or not _lacks_details(known):
        return
    cached = (reported.cache_read or 0) + (reported.cache_write or 0)
    if known.input in (reported.input, (reported.input or 0) - cached):
        reported.total = known.total
        reported.scope = known.scope
        span.usage = reported


def _lacks_details(known: Usage) -> bool:
    return known.cache_read is None and known.cache_write is None and known.reasoning is None


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Outline(msgspec.Struct):
    """What a provider's response says besides its messages; the rest of the JSON is skipped, not decoded."""

    id: str
    model: str | None = None
    object: str | None = None
    status: str | None = None
    stop_reason: str | None = None
    choices: list[_Choice] = []
    usage: dict[str, Any] | None = None


_OUTLINE = msgspec.json.Decoder(_Outline)


def _outline(value: Any) -> dict[str, Any] | None:
    """Id, model and finish reasons of a response; None where it must be read whole to tell."""
    if value.__class__ is not msgspec.Raw:
        return None
    try:
        found = _OUTLINE.decode(value)
    except UNREADABLE:
        return None
    reasons = [choice.finish_reason for choice in found.choices if choice.finish_reason]
    last = found.stop_reason or (found.status if found.object == "response" and found.status != "incomplete" else None)
    if not reasons and last is None:
        return None
    return {
        "response.id": found.id,
        "model.response": found.model,
        "response.finish_reasons": reasons or [last],
        "usage": found.usage,
    }


def _tool(span: GenAISpan, notes: Notes) -> None:
    io = span.io
    assert io is not None
    tool = span.tool = span.tool or Tool()
    for given, field in ((io.input, "arguments"), (io.output, "result")):
        if given is not None and getattr(tool, field) is None:
            printed = langchain.printed_result(given) if field == "result" else None
            if printed is not None:
                tool.result = printed
                continue
            setattr(tool, field, given)
            taken = notes.taken.pop("io.input" if field == "arguments" else "io.output", None)
            if taken:
                notes.taken[f"tool.{field}"] = taken


def _retrieval(span: GenAISpan, notes: Notes) -> None:
    io = span.io
    assert io is not None
    if io.output is not None and (not span.documents or all(d.id is None or d.score is None for d in span.documents)):
        found = content.documents(plain(io.output), notes) or []
        if not span.documents:
            span.documents = found
        elif [doc.content for doc in found] == [doc.content for doc in span.documents]:
            for doc, more in zip(span.documents, found, strict=True):
                doc.id = doc.id if doc.id is not None else more.id
                doc.score = doc.score if doc.score is not None else more.score
    if io.input is not None and span.retrieval is None and span.rerank is None:
        query = query_of(plain(io.input))
        if query is not None:
            span.retrieval = Retrieval(query)


def _embedding(span: GenAISpan, notes: Notes) -> None:
    io = span.io
    assert io is not None
    if not span.embeddings and io.input is not None:
        span.embeddings = content.texts(plain(io.input), notes) or []
    if span.usage is None and (_mentions(io.output, "usage") or _mentions(io.output, "billed_units")):
        said = plain(io.output)
        said = said if isinstance(said, dict) else {}
        meta = said.get("meta")
        told = meta if isinstance(meta, dict) else {}
        counts = said.get("usage") or told.get("usage") or told.get("billed_units")  # the last one: Cohere
        span.usage = usage.from_object(counts)


def _fill(span: GenAISpan, fields: Mapping[str, Any]) -> None:
    for field, value in fields.items():
        if value or not is_empty(value):
            fill_field(span, field, value)


_QUERY_NAMES = (
    "query", "query_text", "input", "question", "text", "search_query", "q", "str_or_query_bundle", "query_str",
    "query_bundle",
)  # fmt: skip


def query_of(value: Any) -> str | None:
    """The query in a retriever's input: text, or the member of an object that is usually it."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, list) and len(value) == 1:
        return query_of(value[0])
    if isinstance(value, dict):
        named = first(value, *_QUERY_NAMES)
        if isinstance(named, str) and named:
            return named
        if isinstance(named, dict) and (found := query_of(named)) is not None:
            return found
        strings = [item for item in value.values() if isinstance(item, str) and item]
        if len(strings) == 1 and len(value) == 1:
            return strings[0]
    return None
