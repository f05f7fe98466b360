"""smolagents: OpenInference's spans, with steps and sums of its own beside them. Source: smolagents 1.x through
openinference-instrumentation-smolagents (semconv guide 5.9).
"""

from collections.abc import Mapping
from typing import Any

from spanweir.schemas.convention import WHOLE, Convention, rules
from spanweir.schemas.genai import GenAISpan
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import count, plain, text


def is_inputs(value: Mapping[str, Any]) -> bool:
    """Whether this is smolagents' schema of what a tool takes: `{name: {type, description}}`."""
    return bool(value) and all(isinstance(told, dict) and _INPUT.issubset(told) for told in value.values())


_INPUT = frozenset({"type", "description"})


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """`Step 1` is a step, whatever OpenInference calls it; a tool was given what `Tool.__call__` was."""
    if raw.name.startswith("Step ") and span.kind in ("chain", "other"):
        span.kind = "step"
    elif span.kind == "tool" and span.io is not None:
        given = plain(span.io.input)
        if isinstance(given, dict) and "sanitize_inputs_outputs" in given and (named := given.get("kwargs")):
            span.io.input = {"args": given["args"], "kwargs": named} if given.get("args") else named


CONVENTION = Convention(
    name="smolagents",
    marks=("smolagents.",),
    scopes=("openinference.instrumentation.smolagents",),
    rank=WHOLE,
    rules=rules({"smolagents.max_steps": ("graph.step", count), "smolagents.task": ("graph.task", text)}),
    refine=refine,
)
