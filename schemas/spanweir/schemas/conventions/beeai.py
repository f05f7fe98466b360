"""BeeAI: OpenInference's spans with free keys beside them. Source: beeai-framework through
openinference-instrumentation-beeai (semconv guide 5.9).
"""

from spanweir.schemas.convention import WHOLE, Convention, rules
from spanweir.schemas.genai import GenAISpan
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import plain, text


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """A tool gets its arguments as `{input, options}`."""
    if span.kind == "tool" and span.io is not None:
        given = plain(span.io.input)
        if isinstance(given, dict) and given.keys() == {"input", "options"} and not given["options"]:
            span.io.input = given["input"]


CONVENTION = Convention(
    name="beeai",
    marks=("beeai.",),
    scopes=("openinference.instrumentation.beeai", "beeai-framework", "@arizeai/openinference-instrumentation-beeai"),
    rank=WHOLE,
    refine=refine,
    rules=rules({"target": ("graph.node", text), "thought": ("metadata", lambda value: {"thought": value})}),
    usage={
        "metadata.usage.prompt_tokens": "input",
        "metadata.usage.completion_tokens": "output",
        "metadata.usage.total_tokens": "total",
        "metadata.usage.cached_prompt_tokens": "cache_read",
        "metadata.usage.cached_creation_tokens": "cache_write",
    },
)
