"""Evaluations and annotations as OpenInference indexes them: on a span, or on it for its trace or its session.

Not here: OpenTelemetry's `gen_ai.evaluation.*` (`conventions.otel_genai`).
"""

from collections.abc import Mapping, Sequence

from spanweir.schemas.genai import Evaluation
from spanweir.schemas.indexed import gather
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import Attributes, Value
from spanweir.schemas.values import json_or_text, number, text

PREFIXES = {
    f"{scope}{family}.": scope.removesuffix(".") or "span"
    for scope in ("", "trace.", "session.")
    for family in ("evaluations", "annotations")
}
"""Beginnings of the keys -> what is judged."""


def _evaluation(one: Mapping[str, Value], scope: str) -> Evaluation | None:
    plain = {key.rpartition(".")[2] if "metadata." not in key else key: value for key, value in one.items()}
    name = text(plain.get("name"))
    if name is None:
        return None
    return Evaluation(
        name,
        number(plain.get("score")),
        text(plain.get("label")),
        text(plain.get("explanation")),
        evaluator=text(plain.get("annotator_kind")),
        scope=scope,
        metadata=json_or_text(plain.get("metadata")),
    )


def indexed(attributes: Attributes, keys: Sequence[str], notes: Notes) -> list[Evaluation] | None:
    return [
        found
        for prefix, scope in PREFIXES.items()
        for one in gather(attributes, keys, prefix, notes)
        if (found := _evaluation(one, scope)) is not None
    ] or None
