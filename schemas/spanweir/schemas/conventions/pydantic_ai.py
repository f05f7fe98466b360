"""Pydantic AI (instrumentation formats 1 to 6) and Logfire's wrappers of provider SDKs.

From format 2 on the content is OpenTelemetry's, with parts of type `thinking` and results under `result`, which
`messages` reads. Here stand format 1 (`events`), whole histories of agents, tool spans without an operation name, and
Logfire's `request_data` and `response_data`. Sources: pydantic-ai 1.0 to 2.68, logfire 5.2 (semconv guide 5.1).
"""

from collections.abc import Sequence
from typing import Any

from spanweir.schemas import associations, usage
from spanweir.schemas.content import request, response, tools
from spanweir.schemas.convention import NATIVE, WHOLE, Convention, Many, Rule, rules, verbatim
from spanweir.schemas.genai import Agent, GenAISpan, Message, Text, ToolDef
from spanweir.schemas.messages import message, messages, parse
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import Attributes, RawSpan
from spanweir.schemas.values import number, text


def _speaker(name: str) -> str:
    """`gen_ai.user.message` -> `user`."""
    pieces = name.split(".")
    return pieces[1] if len(pieces) == 3 and pieces[2] == "message" else "user"


def events(value: Any, notes: Notes) -> dict[str, Any] | None:
    """Format 1: a list of events `{event.name, role, content, …}`, the answer as `gen_ai.choice`."""
    found = parse(value, notes)
    if not isinstance(found, list):
        return None
    given: list[Message] = []
    said: list[Message] = []
    for item in found:
        if not isinstance(item, dict):
            continue
        name = str(item.get("event.name", ""))
        bare = "role" not in item and "finish_reason" in item  # Logfire's google-genai does not name the event
        if name == "gen_ai.choice" or bare or isinstance(item.get("message"), dict):
            inner = item.get("message")
            said += message({"role": "assistant", **(inner if isinstance(inner, dict) else item)}, notes) or []
        else:
            said_by = _speaker(name)
            given += message({"role": said_by, **item}, notes, said_by) or []
    return {"input": given, "output": said} if given or said else None


def history(value: Any, notes: Notes) -> dict[str, Any] | None:
    """An agent's whole conversation: what it ends with is the answer, what came before the input."""
    found = messages(parse(value, notes), notes)
    if not found:
        return None
    cut = len(found)
    while cut and found[cut - 1].role == "assistant":
        cut -= 1
    return {"input": found[:cut], "output": found[cut:]}


def old_history(value: Any, notes: Notes) -> dict[str, Any] | None:
    """`all_messages_events`: events as in format 1, where the answer is an assistant's message like others."""
    fields = events(value, notes)
    if fields is None or fields["output"]:
        return fields
    found = fields["input"]
    cut = len(found)
    while cut and found[cut - 1].role == "assistant":
        cut -= 1
    return {"input": found[:cut], "output": found[cut:]}


def call_events(value: Any, notes: Notes) -> dict[str, Any] | None:
    """`events` of one call. Logfire 3 ends those of the Responses API with an assistant's message for each item."""
    fields = old_history(value, notes)
    if fields is not None and len(fields["output"]) > 1 and "gen_ai.choice" not in str(value):
        first, *others = fields["output"]
        first.parts += [part for said in others for part in said.parts]
        fields["output"] = [first]
    return fields


def model_parameters(value: Any, notes: Notes) -> list[ToolDef]:
    """`model_request_parameters`: the tools that were offered, and those that only structure the output."""
    found = parse(value, notes)
    if not isinstance(found, dict):
        return []
    offered: list[Any] = []
    for name in ("function_tools", "output_tools", "builtin_tools"):
        if isinstance(found.get(name), list):
            offered += found[name]
    return tools(offered, notes) or []


def response_data(value: Any, notes: Notes) -> dict[str, Any] | None:
    """Logfire's `response_data`: `{message, usage}`, or `{combined_chunk_content}` of a stream."""
    found = parse(value, notes)
    if not isinstance(found, dict):
        return None
    streamed = found.get("combined_chunk_content")
    if isinstance(streamed, str) and streamed and "message" not in found:
        return {"output": [Message("assistant", [Text(streamed)])]}
    return response(found, notes)


def raw_usage(value: Any, notes: Notes) -> dict[str, Any] | None:
    """Logfire's `gen_ai.usage.raw`: the counts as the provider sent them."""
    read = usage.from_object(parse(value, notes))
    return {"usage": read} if read is not None else None


_RUNNING = ("running tool", "execute_tool", "running output function")


def _tells_all(raw: RawSpan) -> bool:
    return "pydantic_ai.all_messages" in raw.attributes or "all_messages_events" in raw.attributes


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """Formats 1 and 2 put no operation name on tool and agent spans; tools stand in the request's parameters only."""
    if not span.tools and "model_request_parameters" in raw.attributes:
        span.tools = model_parameters(raw.attributes["model_request_parameters"], notes)
    if span.op is None:
        if raw.name.startswith(_RUNNING) and raw.name != "running tools" and not raw.name.startswith("running tools:"):
            span.kind = "tool"
        elif raw.name.startswith(("agent run", "invoke_agent")) or raw.name.endswith(" run") or _tells_all(raw):
            span.kind = "agent"
        elif raw.name.startswith("running ") and span.kind == "other" and raw.scope.name == "pydantic-ai":
            span.kind = "step"
    if span.kind == "agent" and (name := text(raw.attributes.get("agent_name"))):
        span.agent = span.agent or Agent()
        span.agent.name = span.agent.name or name
    if span.usage is not None and span.kind != "agent" and "gen_ai.aggregated_usage.input_tokens" in raw.attributes:
        span.usage.scope = "rollup"


def _details(attributes: Attributes, keys: Sequence[str], notes: Notes) -> dict[str, float] | None:
    prefix = "gen_ai.usage.details."
    return {key[len(prefix) :]: n for key in keys if (n := number(attributes[key])) is not None} or None


CONVENTION = Convention(
    name="pydantic_ai",
    marks=("pydantic_ai.", "all_messages_events", "model_request_parameters", "logfire.", "gen_ai.aggregated_usage."),
    scopes=("pydantic-ai", "logfire"),
    rank=NATIVE,
    rules=(
        *rules(
            {
                "model_name": ("model.request", text),
                "operation.cost": ("cost.total", number),
                "gen_ai.agent.call.id": ("graph.workflow_id", text),
                "tool_name": ("tool.name", text),
            }
        ),
        *rules(
            {
                "pydantic_ai.all_messages": ("*", history),
                "all_messages_events": ("*", old_history),
                "events": ("*", call_events),
                "request_data": ("*", request),
                "response_data": ("*", response_data),
                "tool_arguments": ("tool.arguments", verbatim),
                "tool_response": ("tool.result", verbatim),
                "final_result": ("io.output", verbatim),
                "metadata": ("*", associations.from_object),
                "gen_ai.usage.raw": ("*", raw_usage),
            },
            rank=WHOLE,
            content=True,
        ),
        Rule("pydantic_ai.variable_instructions", "params.extra", lambda value: {"variable_instructions": value}),
    ),
    many=(Many(("gen_ai.usage.details.",), "usage.other", _details, content=False),),
    usage={
        "gen_ai.aggregated_usage.input_tokens": "input",
        "gen_ai.aggregated_usage.output_tokens": "output",
        "gen_ai.aggregated_usage.total_tokens": "total",
        "gen_ai.aggregated_usage.cache_read.input_tokens": "cache_read",
        "gen_ai.aggregated_usage.cache_creation.input_tokens": "cache_write",
        "gen_ai.aggregated_usage.cache_write.input_tokens": "cache_write",
        "gen_ai.aggregated_usage.details.reasoning_tokens": "reasoning",
    },
    excludes=lambda raw, span: (False, False) if raw.scope.name == "pydantic-ai" else (None, None),
    refine=refine,
)
