"""Pipecat's own spans: OpenTelemetry's scalars with bare names for the content. Source: pipecat-ai 1.14, and
OpenInference's instrumentation of it 2.0, which says `unknown` for the model of the first call and the name beside it.
"""

from spanweir.schemas.content import tools
from spanweir.schemas.convention import NATIVE, WHOLE, Convention, rules, verbatim
from spanweir.schemas.genai import GenAISpan
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import boolean, model_name, seconds, text

_KINDS = {"conversation": "workflow", "turn": "chain", "stt": "audio", "tts": "audio", "llm": "llm"}


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    if span.op is None or span.kind == "other":
        span.kind = _KINDS.get(raw.name, span.kind)


CONVENTION = Convention(
    name="pipecat",
    scopes=("pipecat", "openinference.instrumentation.pipecat"),
    rank=NATIVE,
    rules=(
        *rules(
            {
                "conversation.id": ("conversation_id", text),
                "user_id": ("user_id", text),
                "metrics.ttfb": ("timing.ttft_ns", seconds),
                "metrics.model": ("model.request", model_name),
                "stream": ("params.stream", boolean),
            }
        ),
        *rules({"tools": ("tools", tools), "tools.definitions": ("tools", tools)}, content=True),
        *rules(
            {
                "text": ("io.input", verbatim),
                "transcript": ("io.output", verbatim),
                "text_output": ("io.output", verbatim),
            },
            rank=WHOLE,
            content=True,
        ),
    ),
    refine=refine,
)
