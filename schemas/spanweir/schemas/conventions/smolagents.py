"""smolagents: OpenInference's spans, with steps and sums of its own beside them. Source: smolagents 1.x through
openinference-instrumentation-smolagents (semconv guide 5.9).
"""

from spanweir.schemas.convention import WHOLE, Convention, rules
from spanweir.schemas.genai import GenAISpan
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import count, text


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """`Step 1` is a step, whatever OpenInference calls it."""
    if raw.name.startswith("Step ") and span.kind in ("chain", "other"):
        span.kind = "step"


CONVENTION = Convention(
    name="smolagents",
    marks=("smolagents.",),
    scopes=("openinference.instrumentation.smolagents",),
    rank=WHOLE,
    rules=rules({"smolagents.max_steps": ("graph.step", count), "smolagents.task": ("graph.task", text)}),
    refine=refine,
)
