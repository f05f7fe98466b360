"""What spanweir's own API emits is what spanweir's mapping reads: every operation, through real OTLP bytes."""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import spanweir.instrumentation as spanweir
from spanweir.collector.decode.otlp_proto import decode_traces
from spanweir.instrumentation import policy, state, wire
from spanweir.schemas.mapping import Mapper
from spanweir.schemas.mlflow import Renderer
from spanweir.schemas.trace import MappedSpan


class Mapped:
    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def __getitem__(self, name: str) -> MappedSpan:
        spans = self._exporter.get_finished_spans()
        bodies = [body for body, _ in wire.requests(spans, 1 << 20)]
        raw = next(span for body in bodies for span in decode_traces(body) if span.name == name)
        return Renderer().render(raw, Mapper().map(raw, []))

    def value(self, name: str, key: str) -> Any:
        return orjson.loads(self[name].attributes[f"mlflow.{key}"])


@pytest.fixture
def mapped() -> Iterator[Mapped]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    state.set_provider(provider)
    state.set_policy(policy.Policy())
    yield Mapped(exporter)
    state.set_provider(None)
    state.set_policy(None)


def test_arguments_and_results_of_functions_stay_what_they_are(mapped: Mapped) -> None:
    @spanweir.workflow
    def answer(question: str, limit: int = 3) -> dict[str, Any]:
        return {"answer": question, "limit": limit}

    answer("why?", limit=4)
    assert mapped["invoke_workflow answer"].type == "WORKFLOW"
    assert mapped.value("invoke_workflow answer", "spanInputs") == {"question": "why?", "limit": 4}
    assert mapped.value("invoke_workflow answer", "spanOutputs") == {"answer": "why?", "limit": 4}


def test_an_agent(mapped: Mapped) -> None:
    spanweir.agent("a")(lambda question: "because")("why?")
    assert mapped["invoke_agent a"].type == "AGENT"
    assert mapped.value("invoke_agent a", "spanInputs") == {"messages": [{"role": "user", "content": "why?"}]}
    choice = mapped.value("invoke_agent a", "spanOutputs")["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": "because"}


def test_a_model_call(mapped: Mapped) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    with spanweir.chat("gpt-4o-mini", provider="openai", system="s", input="hi", tools=tools, temperature=0.5) as span:
        span.set_output({"role": "assistant", "content": None, "tool_calls": [call]})
        span.set_usage(10, 5, cache_read=4, reasoning=1)
        span.set_response(id="r", model="gpt-4o-mini-2024-07-18", finish_reasons=["tool_calls"])
    found = mapped["chat gpt-4o-mini"]
    assert (found.type, found.model, found.provider) == ("CHAT_MODEL", "gpt-4o-mini-2024-07-18", "openai")
    given = mapped.value("chat gpt-4o-mini", "spanInputs")
    assert given["messages"] == [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}]
    assert given["temperature"] == 0.5
    assert mapped.value("chat gpt-4o-mini", "chat.tools")[0]["function"]["name"] == "f"
    answer = mapped.value("chat gpt-4o-mini", "spanOutputs")["choices"][0]
    assert answer["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a":1}'}
    assert answer["finish_reason"] == "tool_calls"
    usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15, "cache_read_input_tokens": 4}
    assert mapped.value("chat gpt-4o-mini", "chat.tokenUsage") == usage


def test_a_tool(mapped: Mapped) -> None:
    spanweir.tool("add", call_id="c1")(lambda a, b: {"sum": a + b})(1, b=2)
    assert mapped["execute_tool add"].type == "TOOL"
    assert mapped.value("execute_tool add", "spanInputs") == {"a": 1, "b": 2}
    assert mapped.value("execute_tool add", "spanOutputs") == {"sum": 3}


@pytest.mark.parametrize(
    ("operation", "name", "kind"), [("retrieval", "retrieval kb", "RETRIEVER"), ("rerank", "rerank kb", "RERANKER")]
)
def test_documents(mapped: Mapped, operation: str, name: str, kind: str) -> None:
    document = {"id": "d", "content": "text", "score": 0.5, "metadata": {"uri": "u"}}
    getattr(spanweir, operation)("kb")(lambda query, top_k: [document])("q", top_k=2)
    assert mapped[name].type == kind
    assert mapped.value(name, "spanInputs")["query"] == "q"
    found = mapped.value(name, "spanOutputs")[0]
    assert (found["id"], found["page_content"], found["metadata"]["score"]) == ("d", "text", 0.5)


def test_embeddings(mapped: Mapped) -> None:
    spanweir.embeddings("e")(lambda texts: [[0.5]])(["a", "b"])
    assert mapped["embeddings e"].type == "EMBEDDING"
    assert mapped.value("embeddings e", "spanInputs")["input"] == ["a", "b"]


def test_verdicts(mapped: Mapped) -> None:
    spanweir.guardrail("g")(lambda text: False)("x")
    spanweir.evaluation("e")(lambda answer: {"score": 0.5, "label": "ok", "explanation": "because"})("x")
    assert mapped["apply_guardrail g"].type == "GUARDRAIL"
    assert mapped.value("apply_guardrail g", "spanOutputs") is False
    assert mapped["evaluate e"].type == "EVALUATOR"


def test_session_user_and_errors(mapped: Mapped) -> None:
    with pytest.raises(ValueError, match="bad"), spanweir.workflow("w", session="s", user="u"):
        raise ValueError("bad")
    found = mapped["invoke_workflow w"]
    assert found.status == "ERROR"
    raw = found.raw
    canonical = Mapper().map(raw, [])
    assert canonical is not None
    assert (canonical.session_id, canonical.user_id) == ("s", "u")
