"""Google's Agent Development Kit, schema 1 (`gcp.vertex.agent.*` dumps) and 2 (OpenTelemetry's content).

Placeholders `{}` and `N/A` stand on spans where a dump does not apply. `gen_ai.system` says `gcp.vertex.agent`, which
is no provider. Source: google-adk 1.x and 2.13 (semconv guide 5.6).
"""

from typing import Any

from spanweir.schemas.content import request, response
from spanweir.schemas.convention import NATIVE, Convention, rules
from spanweir.schemas.genai import GenAISpan
from spanweir.schemas.messages import parse
from spanweir.schemas.notes import Notes, first
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import count, json_or_text, text
from spanweir.schemas.vocabulary import provider

_UNSPECIFIED = "<not specified>"
_MERGED = "(merged tools)"
_PLACEHOLDERS = ("{}", "N/A", '"N/A"', "null", "[]", _UNSPECIFIED)


def given(value: Any, notes: Notes) -> Any:
    """A dump that is not a placeholder."""
    return None if value in _PLACEHOLDERS else json_or_text(value)


def model_request(value: Any, notes: Notes) -> dict[str, Any] | None:
    """`llm_request`: `{model, contents, config: {system_instruction, tools, …}}`."""
    return None if value in _PLACEHOLDERS else request(value, notes)


def model_response(value: Any, notes: Notes) -> dict[str, Any] | None:
    """`llm_response`: a candidate's content with usage beside it."""
    if value in _PLACEHOLDERS:
        return None
    found = parse(value, notes)
    if isinstance(found, dict) and "content" in found and "candidates" not in found:
        reason = first(found, "finish_reason", "finishReason")  # the kits for JavaScript and Java
        found = {
            "candidates": [{"content": found["content"], "finish_reason": reason}],
            "usage_metadata": first(found, "usage_metadata", "usageMetadata"),
            "model_version": first(found, "model_version", "modelVersion"),
        }
    return response(found, notes)


_KINDS = (("call_llm", "llm"), ("invocation", "workflow"), ("agent_run", "agent"), ("invoke_agent", "agent"))


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """Schema 1 has names where schema 2 has operations; `(merged tools)` repeats what the tools of one turn gave, whose
    own spans stand below it (Go) or beside it. It names itself where the provider belongs; the model's name says whose
    it is (`gemini-2.5-flash`, LiteLLM's `openai/…`)."""
    if span.provider is None and span.model is not None and (name := span.model.request):
        head, slash, _ = name.partition("/")
        if slash or head.startswith("gemini"):
            span.provider = provider(head)[0] if slash else "gcp.gemini"
    tool = span.tool
    if tool is not None and tool.name == _MERGED:
        span.kind, span.tool = "chain", None
        return
    if tool is not None and tool.id == _UNSPECIFIED:
        tool.id = None
    if span.op is None or span.kind == "other":
        for beginning, kind in _KINDS:
            if raw.name.startswith(beginning):
                span.kind = kind
                return
        if raw.name.startswith("execute_tool"):
            span.kind = "tool"


def excludes(raw: RawSpan, span: GenAISpan) -> tuple[bool | None, bool | None]:
    """Schema 1 reports `candidates_token_count` as output, without thoughts; the cache is part of the prompt."""
    return (False, True) if "gcp.vertex.agent.llm_response" in raw.attributes else (False, None)


CONVENTION = Convention(
    name="google_adk",
    marks=("gcp.vertex.agent.",),
    scopes=("gcp.vertex.agent",),
    rank=NATIVE,
    rules=(
        *rules(
            {
                "gcp.vertex.agent.session_id": ("conversation_id", text),
                "gcp.vertex.agent.invocation_id": ("graph.workflow_id", text),
                "gen_ai.tool_call.id": ("tool.id", text),
                "gen_ai.usage.experimental.tool_use_tokens": ("usage.tool_use_prompt", count),
            }
        ),
        *rules(
            {
                "gcp.vertex.agent.llm_request": ("*", model_request),
                "gcp.vertex.agent.llm_response": ("*", model_response),
                "gcp.vertex.agent.tool_call_args": ("tool.arguments", given),
                "gcp.vertex.agent.tool_response": ("tool.result", given),
                "gcp.vertex.agent.data": ("io.input", given),
            },
            content=True,
        ),
    ),
    excludes=excludes,
    refine=refine,
)
