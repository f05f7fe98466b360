"""Golden datasets out of stored traces: inputs, outputs, retrieved context, expectations; and judgements written back.

Reproducible: which traces are taken depends on their inputs and the seed alone, not on order or time.
"""

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson

from spanweir.collector.stored import Store, Trace
from spanweir.schemas.trace import Assessment


class Example(msgspec.Struct, kw_only=True):
    """One row of a dataset."""

    inputs: dict[str, Any]
    """The root span's inputs; what is no object stands under `input`."""
    outputs: Any = None
    expectations: dict[str, Any] = {}
    """By name, from the trace's expectations."""
    retrieved_context: list[dict[str, Any]] = []
    """Documents that retriever spans returned: `content`, and `doc_uri` where there is one."""
    trace_id: str
    request_time: str = ""
    tags: dict[str, str] = {}


def examples(traces: Iterable[Trace], *, outputs_are_expected: bool = False) -> list[Example]:
    """An example of each trace whose root has inputs. `outputs_are_expected` makes outputs `expected_response`."""
    made = []
    for trace in traces:
        example = _example(trace)
        if example is None:
            continue
        if outputs_are_expected and "expected_response" not in example.expectations:
            example.expectations["expected_response"] = _text(example.outputs)
        made.append(example)
    return made


def _example(trace: Trace) -> Example | None:
    info, spans = trace["info"], trace["data"]["spans"]
    root = next((span for span in spans if not span.get("parent_span_id")), None)
    inputs = _attribute(root, "mlflow.spanInputs") if root else None
    if inputs is None:
        return None
    return Example(
        inputs=inputs if isinstance(inputs, dict) else {"input": inputs},
        outputs=_attribute(root, "mlflow.spanOutputs"),
        expectations={
            a["assessment_name"]: _expected(a["expectation"]) for a in info.get("assessments", ()) if "expectation" in a
        },
        retrieved_context=[document for span in spans for document in _documents(span)],
        trace_id=info["trace_id"],
        request_time=info["request_time"],
        tags={k: v for k, v in info.get("tags", {}).items() if not k.startswith("mlflow.")},
    )


def _attribute(span: Mapping[str, Any] | None, key: str) -> Any:
    text = ((span or {}).get("attributes") or {}).get(key)
    if not isinstance(text, str):
        return text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _expected(expectation: Mapping[str, Any]) -> Any:
    serialized = expectation.get("serialized_value")
    return orjson.loads(serialized["value"]) if serialized else expectation.get("value")


def _documents(span: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    if _attribute(span, "mlflow.spanType") != "RETRIEVER":
        return
    outputs = _attribute(span, "mlflow.spanOutputs")
    for document in outputs if isinstance(outputs, list) else ():
        if not isinstance(document, dict):
            continue
        content = next((document[key] for key in ("page_content", "content", "text") if document.get(key)), None)
        if content is None:
            continue
        uri = (document.get("metadata") or {}).get("doc_uri")
        yield {"content": content, **({"doc_uri": uri} if uri else {})}


def _text(value: Any) -> Any:
    """The answer's text, where the outputs are messages or an object with one text."""
    if isinstance(value, list) and value and isinstance(value[-1], dict):
        return _text(value[-1])
    if isinstance(value, dict):
        for key in ("content", "text", "answer", "response", "output", "result"):
            if isinstance(value.get(key), str):
                return value[key]
        if isinstance(value.get("parts"), list):
            return "".join(part.get("content", "") for part in value["parts"] if isinstance(part, dict))
    return value


def distinct(given: Sequence[Example]) -> list[Example]:
    """One of each inputs: the newest, with the expectations of all."""
    kept: dict[bytes, Example] = {}
    for example in sorted(given, key=lambda e: (e.request_time, e.trace_id)):
        key = _key(example)
        if key in kept:
            example.expectations = {**kept[key].expectations, **example.expectations}
        kept[key] = example
    return list(kept.values())


def sampled(given: Sequence[Example], count: int, seed: int = 0) -> list[Example]:
    """`count` of the examples, the same ones whenever they are among those given."""
    return sorted(given, key=lambda e: hashlib.sha256(b"%d:" % seed + _key(e)).digest())[:count]


def _key(example: Example) -> bytes:
    return orjson.dumps(example.inputs, option=orjson.OPT_SORT_KEYS)


_COLUMNS: Final = ("inputs", "outputs", "expectations", "retrieved_context", "trace_id", "request_time", "tags")


def write_jsonl(given: Sequence[Example], path: Path) -> None:
    path.write_bytes(b"".join(orjson.dumps(msgspec.to_builtins(e), option=orjson.OPT_APPEND_NEWLINE) for e in given))


def write_parquet(given: Sequence[Example], path: Path) -> None:
    """`inputs`, `outputs`, `expectations`, `retrieved_context`, `tags` are JSON text."""
    from arro3.core import Array, DataType, Field, Schema, Table
    from arro3.io import write_parquet

    columns = [
        [
            value if isinstance(value := getattr(e, name), str) and name != "outputs" else orjson.dumps(value).decode()
            for e in given
        ]
        for name in _COLUMNS
    ]
    schema = Schema([Field(name, DataType.string()) for name in _COLUMNS])
    write_parquet(Table.from_arrays([Array(c, DataType.string()) for c in columns], schema=schema), path)


def to_mlflow(given: Sequence[Example], name: str, tracking_uri: str, experiment_id: str = "0") -> Any:
    """An MLflow evaluation dataset of that name, created or added to; MLflow merges records by their inputs."""
    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.genai.datasets import create_dataset, get_dataset

    mlflow.set_tracking_uri(tracking_uri)
    try:
        dataset = get_dataset(name=name)
    except MlflowException:
        dataset = create_dataset(name=name, experiment_id=[experiment_id])
    dataset.merge_records([_record(example) for example in given])
    return dataset


def _record(example: Example) -> dict[str, Any]:
    expectations = dict(example.expectations)
    if example.retrieved_context:
        expectations["retrieved_context"] = example.retrieved_context
    return {
        "inputs": example.inputs,
        "outputs": example.outputs,
        "expectations": expectations,
        "tags": example.tags,
        "source": {"source_type": "TRACE", "source_data": {"trace_id": example.trace_id}},
    }


def rows(given: Sequence[Example]) -> list[dict[str, Any]]:
    """What `mlflow.genai.evaluate(data=…)` takes: answers are judged as they are, no application is called."""
    return [{key: r[key] for key in ("inputs", "outputs", "expectations")} for r in map(_record, given)]


def write_back(
    store: Store,
    given: Sequence[Example],
    results: Iterable[Mapping[str, Any]],
    names: Sequence[str],
    by: str = "offline",
) -> int:
    """Judgements of `mlflow.genai.evaluate` as feedback on the traces that the examples came from.

    `results` are the rows of `EvaluationResult.result_df` in the order of `given`; of them the scorers in `names` are
    written, as said by `by`. Judging again replaces what was written. Returns how many were written.
    """
    assessments: dict[str, list[Assessment]] = {}
    for example, result in zip(given, results, strict=True):
        for name in names:
            value = result.get(f"{name}/value")
            if value is None:
                continue
            identity = hashlib.sha256(f"{example.trace_id}:{by}:{name}".encode()).hexdigest()[:32]
            assessments.setdefault(example.trace_id, []).append(
                Assessment(
                    assessment_id=f"a-{identity}", name=name, kind="feedback", value=orjson.dumps(value).decode(),
                    source_type="CODE", source_id=by, created_ms=time.time_ns() // 1_000_000,
                )
            )  # fmt: skip
    store.assess(assessments)
    return sum(map(len, assessments.values()))
