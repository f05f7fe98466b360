"""AG2's own tracing: OpenTelemetry's attributes on conversations, speakers' choices and human input too.

A conversation's output is everything that was said in it, its question first. Source: ag2 0.11.
"""

from spanweir.schemas.convention import NATIVE, WHOLE, Convention, rules, verbatim, word
from spanweir.schemas.genai import GenAISpan
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import text

KINDS = {
    "conversation": "workflow", "multi_conversation": "workflow", "agent": "agent", "llm": "llm", "tool": "tool",
    "speaker_selection": "step", "human_input": "step", "handoff": "step", "code_execution": "tool",
}  # fmt: skip


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """The answer of a conversation is the last thing said; the rest stays in the attribute."""
    if raw.attributes.get("ag2.span.type") == "conversation" and len(span.output) > 1:
        answer = span.output[-1]
        answer.role = "assistant"
        span.output = [answer]


CONVENTION = Convention(
    name="ag2",
    marks=("ag2.",),
    scopes=("opentelemetry.instrumentation.ag2",),
    rank=NATIVE,
    rules=(
        *rules({"ag2.span.type": ("kind", word(KINDS)), "ag2.speaker_selection.selected": ("graph.node", text)}),
        *rules(
            {
                "ag2.human_input.prompt": ("io.input", verbatim),
                "ag2.human_input.response": ("io.output", verbatim),
                "ag2.code_execution.output": ("tool.result", verbatim),
                "ag2.chats.summaries": ("io.output", verbatim),
            },
            rank=WHOLE,
            content=True,
        ),
    ),
    refine=refine,
)
