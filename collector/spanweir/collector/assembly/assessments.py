"""Evaluations as MLflow assessments, with ids that are the same however often the evaluation arrives."""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from spanweir.schemas.genai import Evaluation
from spanweir.schemas.trace import Assessment

_json = msgspec.json.Encoder().encode
_SOURCES = {"HUMAN": "HUMAN", "LLM": "LLM_JUDGE", "LLM_JUDGE": "LLM_JUDGE", "CODE": "CODE"}
_SESSION = "mlflow.trace.session"


def assessment_of(
    evaluation: Evaluation, trace_id: str, span_id: str, index: int = 0, session_id: str | None = None
) -> Assessment:
    """A feedback with the score as its value, or the label where there is no score.

    MLflow tells a judgement on a session by the session's id in its metadata (genai/evaluation/session_utils.py, 3.10).
    """
    evaluator = evaluation.evaluator or ""
    identity = f"{trace_id}/{span_id}/{evaluation.name}/{evaluator}/{evaluation.time_ns or index}"
    value: float | str | None = evaluation.score if evaluation.score is not None else evaluation.label
    metadata: dict[str, str] = {}
    given = evaluation.metadata
    given = msgspec.json.decode(given) if isinstance(given, msgspec.Raw) else given
    if isinstance(given, Mapping):
        metadata = {str(key): _text(item) for key, item in given.items()}
    elif given is not None:
        metadata["metadata"] = _text(given)
    if evaluation.scope == "session" and session_id:
        metadata[_SESSION] = session_id
    if evaluation.score is not None and evaluation.label is not None:
        metadata["label"] = evaluation.label
    if evaluation.response_id:
        metadata["gen_ai.response.id"] = evaluation.response_id
    return Assessment(
        assessment_id="a-" + blake2b(identity.encode(), digest_size=16).hexdigest(),
        name=evaluation.name,
        kind="feedback",
        value=_json(value).decode(),
        source_type=_SOURCES.get(evaluator.upper(), "CODE"),
        source_id="" if evaluator.upper() in _SOURCES else evaluator,
        span_id=None if evaluation.scope != "span" else span_id or None,
        rationale=evaluation.explanation,
        error=evaluation.error,
        metadata=metadata,
        created_ms=evaluation.time_ns // 1_000_000,
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _json(value).decode()
