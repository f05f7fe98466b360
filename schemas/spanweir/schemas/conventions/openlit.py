"""OpenLIT: OpenTelemetry's conventions with extras, and in old versions events of flattened text.

Source: openlit 1.45 (semconv guide 5.4). Time to first token is in seconds, as OpenTelemetry has it.
"""

import re
from typing import Any

from spanweir.schemas.convention import NATIVE, Convention, rules, verbatim
from spanweir.schemas.genai import GenAISpan, Message, Part, Retrieval, Text, ToolCall
from spanweir.schemas.media import media
from spanweir.schemas.messages import messages, parse
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import Broken, boolean, loads, number, seconds, text

_LINE = re.compile(r"^(system|user|assistant|tool|developer): ", re.MULTILINE)


def unflatten(found: list[Message]) -> list[Message]:
    """`gen_ai.content.prompt` of old versions: a conversation as one text, `role: content` line by line."""
    if len(found) != 1 or len(found[0].parts) != 1 or not isinstance(part := found[0].parts[0], Text):
        return found
    marks = list(_LINE.finditer(part.content))
    if not marks or marks[0].start() != 0:
        return found
    ends = [mark.start() for mark in marks[1:]] + [len(part.content)]
    said = [part.content[mark.end() : end].removesuffix("\n") for mark, end in zip(marks, ends, strict=True)]
    whole = next((one for one in reversed(said) if one.startswith(("[{'role': ", "[{'content': "))), None)
    if whole is not None and "'role': " in whole:  # 1.34 says the whole list where a message has no content
        return messages(parse(whole, Notes()), Notes()) or found
    return [Message(mark[1], _parts(one)) for mark, one in zip(marks, said, strict=True)]


_PICTURE = re.compile(r"(?:^|, )image_url: (\{'url': '[^']*'[^{}]*\})")


def _parts(said: str) -> list[Part]:
    """A message that has pictures: `text: …, image_url: {'url': '…'}`, the text as it is and the picture as Python."""
    pictures = list(_PICTURE.finditer(said))
    if not pictures:
        return _text(said) if said.startswith("text: ") else [Text(said)]
    found: list[Part] = []
    start = 0
    for picture in pictures:
        found += _text(said[start : picture.start()])
        found.append(media(parse(picture[1], Notes()), Notes(), "image"))
        start = picture.end()
    return found + _text(said[start:])


def _text(said: str) -> list[Part]:
    bare = said.removeprefix(", ").removeprefix("text: ")
    return [Text(bare)] if bare else []


def _calls_of_1_33(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """Versions about 1.33 put the calls into an attribute, as a Python list, and `None` for the answer's text."""
    read = messages([{"role": "assistant", "tool_calls": parse(raw.attributes[_CALLS], notes)}], notes) or []
    calls = [part for message in read for part in message.parts if isinstance(part, ToolCall)]
    if not calls or any(isinstance(part, ToolCall) for message in span.output for part in message.parts):
        return
    if not span.output:
        span.output = [Message("assistant", [])]
    said = span.output[-1]
    said.parts = [*(part for part in said.parts if part != Text("None")), *calls]


_CALLS = "gen_ai.response.tool_calls"


def _called(raw: RawSpan, span: GenAISpan) -> None:
    """Versions about 1.34 put the tools that a model called on its span, several joined by commas."""
    if any(isinstance(part, ToolCall) for message in span.output for part in message.parts):
        return
    given = text(raw.attributes.get("gen_ai.tool.args")) or ""
    assert span.tool is not None
    names, ids = ((value or "").split(", ") for value in (span.tool.name, span.tool.id))
    if not names[0]:
        return
    try:
        listed = loads(f"[{given}]")
    except ValueError:
        listed = [given]
    listed = listed.value if isinstance(listed, Broken) else listed
    calls: list[Part] = [
        ToolCall(name, ids[i] or None if i < len(ids) else None, listed[i] if i < len(listed) else None)
        for i, name in enumerate(names)
    ]
    if span.output:
        span.output[-1].parts += calls
    else:
        span.output = [Message("assistant", calls)]


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """A vector database call retrieves only where it queries; inserting documents is no retrieval."""
    span.input = unflatten(span.input)
    if span.kind == "llm" and span.tool is not None:
        _called(raw, span)
    if span.kind == "llm" and _CALLS in raw.attributes:
        _calls_of_1_33(raw, span, notes)
    if span.kind == "image" and not span.output and (url := text(raw.attributes.get("gen_ai.response.image"))):
        span.output = [Message("assistant", [media({"url": url}, notes, "image")])]
    if span.kind == "retrieval" and span.op == "vectordb":
        query = text(raw.attributes.get("db.query.text"))
        if query and query[:1] not in "[{":  # else it is a vector or a filter
            span.retrieval = span.retrieval or Retrieval()
            span.retrieval.query = span.retrieval.query or query
        operation = str(raw.attributes.get("db.operation.name") or raw.attributes.get("db.operation") or "").lower()
        if operation and not any(word in operation for word in ("query", "search", "get", "retrieve", "fetch")):
            span.kind = "other"


def dollars(value: Any) -> float | None:
    """OpenLIT writes 0 for models it has no price for."""
    found = number(value)
    return found if found else None


CONVENTION = Convention(
    name="openlit",
    marks=("gen_ai.request.is_stream", "gen_ai.server.ttft", "gen_ai.endpoint", "openlit."),
    scopes=("openlit",),
    rank=NATIVE,
    rules=(
        *rules(
            {
                "gen_ai.request.is_stream": ("params.stream", boolean),
                "gen_ai.request.user": ("user_id", text),
                "gen_ai.server.ttft": ("timing.ttft_ns", seconds),
                "gen_ai.server.tbt": ("timing.tpot_ns", seconds),
                "gen_ai.endpoint": ("model.api_base", text),
                "gen_ai.usage.cost": ("cost.total", dollars),
            }
        ),
        *rules(
            {
                "gen_ai.workflow.input": ("io.input", verbatim),
                "gen_ai.workflow.output": ("io.output", verbatim),
            },
            content=True,
        ),
    ),
    refine=refine,
)
