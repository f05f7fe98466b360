"""Laminar (lmnr): `lmnr.span.*` and `lmnr.association.properties.*`. Source: lmnr 0.8 (semconv guide 5.10)."""

from typing import Any

from spanweir.schemas import associations
from spanweir.schemas.convention import NATIVE, WHOLE, Convention, rules, verbatim, word
from spanweir.schemas.values import strings

KINDS = {
    "llm": "llm", "cached": "llm", "tool": "tool", "pipeline": "workflow", "executor": "task",
    "evaluator": "evaluation", "human_evaluator": "evaluation", "evaluation": "workflow",
}  # fmt: skip


def path(value: Any) -> str | None:
    """`lmnr.span.path` is a list of names from the root down."""
    found = strings(value)
    return "/".join(found) if found else None


_ASSOCIATED, _PROPERTIES = associations.bag("lmnr.association.properties.")
_METADATA, _METADATA_PROPERTIES = associations.bag("lmnr.association.properties.metadata.")

CONVENTION = Convention(
    name="laminar",
    marks=("lmnr.",),
    scopes=("lmnr",),
    rank=NATIVE,
    rules=(
        *rules(
            {
                "lmnr.span.type": ("kind", word(KINDS)),
                "lmnr.span.path": ("graph.path", path),
                "lmnr.association.properties.tags": ("tags", strings),
            }
        ),
        *rules(
            {
                "lmnr.span.input": ("io.input", verbatim),
                "lmnr.span.output": ("io.output", verbatim),
            },
            rank=WHOLE,
            content=True,
        ),
        *_METADATA,
        *_ASSOCIATED,
    ),
    many=(*_METADATA_PROPERTIES, *_PROPERTIES),
)
