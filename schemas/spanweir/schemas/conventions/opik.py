"""Opik (Comet): an overlay of `opik.*` ids and metadata on foreign spans. Source: opik 2.2 (semconv guide 5.10)."""

from spanweir.schemas import associations
from spanweir.schemas.convention import NATIVE, Convention, rules
from spanweir.schemas.values import strings, text

_METADATA, _PROPERTIES = associations.bag("opik.metadata.")

CONVENTION = Convention(
    name="opik",
    marks=("opik.",),
    rank=NATIVE,
    rules=(
        *rules({"opik.tags": ("tags", strings), "opik.thread_id": ("session_id", text)}),
        *rules({"opik.metadata": ("*", associations.from_object)}, content=True),
        *_METADATA,
    ),
    many=_PROPERTIES,
)
