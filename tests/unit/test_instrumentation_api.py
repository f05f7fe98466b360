"""The fluent and the client API against an in-memory exporter of the plain SDK."""

import asyncio
import contextvars
import enum
import gc
import json
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import spanweir.instrumentation as spanweir
from spanweir.instrumentation import policy, records, state


class Spans:
    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def forget(self) -> None:
        self._exporter.clear()

    def __getitem__(self, name: str) -> ReadableSpan:
        found = [span for span in self.all() if span.name == name]
        assert len(found) == 1, [span.name for span in self.all()]
        return found[0]

    def content(self, name: str, key: str) -> Any:
        value = (self[name].attributes or {}).get(key)
        return None if value is None else json.loads(str(value))


@pytest.fixture
def spans() -> Iterator[Spans]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    state.set_provider(provider)
    state.set_policy(policy.Policy())
    yield Spans(exporter)
    state.set_provider(None)
    state.set_policy(None)


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


def message(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": content}]}


def test_a_workflow_of_decorated_functions(spans: Spans) -> None:
    @spanweir.retrieval("kb")
    def search(query: str, top_k: int = 3) -> list[dict[str, Any]]:
        return [{"id": "d1", "content": "c", "score": 0.5, "metadata": {"uri": "u"}}]

    @spanweir.tool
    def add(a: int, b: int) -> int:
        return a + b

    @spanweir.workflow
    def answer(question: str) -> str:
        return f"{len(search(question))} {add(1, b=2)}"

    assert answer("why?") == "1 3"
    root = spans["invoke_workflow answer"]
    assert parent_of(root) is None
    assert parent_of(spans["retrieval kb"]) == parent_of(spans["execute_tool add"]) == id_of(root)
    assert spans.content("invoke_workflow answer", "gen_ai.input.messages") == [message("user", "why?")]
    assert spans.content("invoke_workflow answer", "gen_ai.output.messages") == [message("assistant", "1 3")]
    assert spans["retrieval kb"].kind is SpanKind.CLIENT
    assert (spans["retrieval kb"].attributes or {})["gen_ai.retrieval.query.text"] == "why?"
    documents = [{"id": "d1", "content": "c", "score": 0.5, "metadata": {"uri": "u"}}]
    assert spans.content("retrieval kb", "gen_ai.retrieval.documents") == documents
    assert spans.content("execute_tool add", "gen_ai.tool.call.arguments") == {"a": 1, "b": 2}
    assert spans.content("execute_tool add", "gen_ai.tool.call.result") == 3


def test_a_model_call_tells_what_it_asked_and_got(spans: Spans) -> None:
    @spanweir.chat(provider="openai")
    def complete(model: str, messages: list[Any], temperature: float, tools: list[Any], max_tokens: int = 9) -> Any:
        return {
            "id": "r1",
            "model": "m-1",
            "choices": [{"message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 4},
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
        }

    complete("m", [{"role": "user", "content": "?"}], 0.5, tools=[{"type": "function", "function": {"name": "f"}}])
    attributes = dict(spans["chat m"].attributes or {})
    assert attributes["gen_ai.operation.name"] == "chat"
    assert attributes["gen_ai.provider.name"] == "openai"
    assert attributes["gen_ai.request.model"] == "m"
    assert attributes["gen_ai.request.temperature"] == 0.5
    assert attributes["gen_ai.response.id"] == "r1"
    assert attributes["gen_ai.response.model"] == "m-1"
    assert attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert attributes["gen_ai.usage.input_tokens"] == 10
    assert attributes["gen_ai.usage.output_tokens"] == 5
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 4
    assert attributes["gen_ai.usage.reasoning.output_tokens"] == 2
    assert spans.content("chat m", "gen_ai.tool.definitions") == [{"type": "function", "name": "f"}]
    assert spans.content("chat m", "gen_ai.output.messages") == [
        {**message("assistant", "yes"), "finish_reason": "stop"}
    ]


def test_input_tokens_of_anthropic_include_the_cache(spans: Spans) -> None:
    @spanweir.chat("claude")
    def create(messages: Any) -> Any:
        usage = {"input_tokens": 3, "output_tokens": 1, "cache_read_input_tokens": 90, "cache_creation_input_tokens": 7}
        return {
            "role": "assistant",
            "content": [{"type": "text", "text": "x"}],
            "stop_reason": "end_turn",
            "usage": usage,
        }

    create("hi")
    attributes = dict(spans["chat claude"].attributes or {})
    assert attributes["gen_ai.usage.input_tokens"] == 100
    assert attributes["gen_ai.usage.cache_write.input_tokens"] == 7
    assert attributes["gen_ai.response.finish_reasons"] == ("end_turn",)


def test_tokens_of_gemini_include_the_thoughts(spans: Spans) -> None:
    @spanweir.chat("gemini")
    def generate(contents: str) -> Any:
        usage = {"prompt_token_count": 10, "candidates_token_count": 3, "thoughts_token_count": 4}
        content = {"role": "model", "parts": [{"text": "x"}]}
        candidates = [{"content": content, "finish_reason": "STOP"}]
        return {"candidates": candidates, "usage_metadata": usage, "model_version": "gemini-1", "response_id": "r"}

    generate("hi")
    attributes = dict(spans["chat gemini"].attributes or {})
    assert attributes["gen_ai.usage.output_tokens"] == 7
    assert attributes["gen_ai.usage.reasoning.output_tokens"] == 4
    assert attributes["gen_ai.response.finish_reasons"] == ("STOP",)
    assert attributes["gen_ai.response.model"] == "gemini-1"


def test_context_manager_with_everything_said_by_hand(spans: Spans) -> None:
    with spanweir.chat("m", provider="p", system="be brief", input="hi", seed=7, stop=["."]) as span:
        span.set_output("ho")
        span.set_usage(1, 2, cache_read=3, cache_write=4, reasoning=5)
        span.set_response(id="i", model="m-1", finish_reasons=["stop"])
        span.set_attribute("mine", True)
    attributes = dict(spans["chat m"].attributes or {})
    assert attributes["gen_ai.request.stop_sequences"] == (".",)
    assert attributes["gen_ai.usage.cache_write.input_tokens"] == 4
    assert attributes["mine"] is True
    assert spans.content("chat m", "gen_ai.system_instructions") == [{"type": "text", "content": "be brief"}]


@pytest.mark.parametrize("kind", ["guardrail", "evaluation"])
def test_verdicts(spans: Spans, kind: str) -> None:
    @getattr(spanweir, kind)("safe")
    def check(answer: str) -> dict[str, Any]:
        return {"score": 0.25, "label": "fail", "explanation": "rude"}

    check("you fool")
    span = spans.all()[0]
    attributes = dict(span.attributes or {})
    assert attributes["gen_ai.evaluation.score.value"] == 0.25
    assert attributes["gen_ai.evaluation.score.label"] == "fail"
    assert attributes["gen_ai.evaluation.explanation"] == "rude"
    assert attributes["openinference.span.kind"] == {"guardrail": "GUARDRAIL", "evaluation": "EVALUATOR"}[kind]
    if kind == "evaluation":
        assert [event.name for event in span.events] == ["gen_ai.evaluation.result"]


def test_embeddings_and_rerank(spans: Spans) -> None:
    @spanweir.embeddings("e", dimensions=2)
    def embed(texts: list[str]) -> list[list[float]]:
        return [[0.0, 1.0] for _ in texts]

    @spanweir.rerank("r", top_k=1)
    def rank(query: str, documents: list[str]) -> list[str]:
        return documents[:1]

    embed(["a", "b"])
    rank("q", ["x", "y"])
    assert "gen_ai.output.messages" not in (spans["embeddings e"].attributes or {})
    assert spans.content("embeddings e", "gen_ai.input.messages") == [message("user", "a"), message("user", "b")]
    assert (spans["rerank r"].attributes or {})["openinference.span.kind"] == "RERANKER"
    assert spans.content("rerank r", "gen_ai.retrieval.documents") == [{"id": "0", "content": "x"}]


def test_exceptions_are_recorded_and_pass(spans: Spans) -> None:
    @spanweir.tool
    def fail() -> None:
        raise KeyError("no")

    with pytest.raises(KeyError):
        fail()
    span = spans["execute_tool fail"]
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "KeyError"
    event = dict(span.events[0].attributes or {})
    assert event["exception.type"] == "KeyError"
    assert "def fail" in str(event["exception.stacktrace"]) or "raise KeyError" in str(event["exception.stacktrace"])


def test_methods_leave_self_out(spans: Spans) -> None:
    class Tools:
        @spanweir.tool
        def double(self, n: int) -> int:
            return 2 * n

        @classmethod
        @spanweir.tool
        def triple(cls, n: int) -> int:
            return 3 * n

        @staticmethod
        @spanweir.tool
        def half(n: int) -> float:
            return n / 2

        @spanweir.tool
        @classmethod
        def fourfold(cls, n: int) -> int:
            return 4 * n

        @spanweir.tool()
        @staticmethod
        def less(n: int) -> int:
            return n - 1

    assert (Tools().fourfold(2), Tools.less(2)) == (8, 1)
    spans.forget()
    assert (Tools().double(2), Tools.triple(2), Tools.half(2), Tools.fourfold(2), Tools().less(2)) == (4, 6, 1.0, 8, 1)
    for name in ("double", "triple", "half", "fourfold", "less"):
        assert spans.content(f"execute_tool {name}", "gen_ai.tool.call.arguments") == {"n": 2}


class Model(enum.Enum):
    SMALL = "small-1"


def test_what_a_call_leaves_out_counts_where_arguments_have_names(spans: Spans) -> None:
    @spanweir.chat(Model.SMALL)
    def ask(messages: str, model: str = "large-1", temperature: float = 0.2, seed: int | None = None) -> str:
        return "yes"

    @spanweir.retrieval("kb")
    def search(query: str, top_k: int = 3) -> list[str]:
        return ["text"]

    @spanweir.tool
    def weather(city: str, days: int = 2, *, unit: str = "C") -> str:
        return "wet"

    @spanweir.agent
    def answer(question: str, steps: int = 10) -> str:
        return "42"

    with spanweir.chat(Model.SMALL):
        pass
    ask("hi")
    search("q")
    weather("Paris", unit="K")
    answer("why?")
    assert spans["chat small-1"]
    asked = dict(spans["chat large-1"].attributes or {})
    assert (asked["gen_ai.request.model"], asked["gen_ai.request.temperature"]) == ("large-1", 0.2)
    assert "gen_ai.request.seed" not in asked
    assert spans.content("chat large-1", "gen_ai.input.messages") == [message("user", "hi")]
    assert dict(spans["retrieval kb"].attributes or {})["gen_ai.retrieval.top_k"] == 3
    arguments = spans.content("execute_tool weather", "gen_ai.tool.call.arguments")
    assert arguments == {"city": "Paris", "unit": "K", "days": 2}
    assert spans.content("invoke_agent answer", "gen_ai.input.messages") == [message("user", "why?")]


def test_coroutines_run_side_by_side_each_under_its_own_parent(spans: Spans) -> None:
    @spanweir.tool
    async def step(n: int) -> int:
        await asyncio.sleep(0.001 * (3 - n))
        return n

    @spanweir.agent
    async def run(n: int) -> int:
        return await step(n)

    async def main() -> list[int]:
        return await asyncio.gather(*(run(n) for n in range(3)))

    assert asyncio.run(main()) == [0, 1, 2]
    agents = {id_of(span) for span in spans.all() if span.name == "invoke_agent run"}
    assert {parent_of(span) for span in spans.all() if span.name == "execute_tool step"} == agents


def test_a_function_that_returns_a_task_or_a_future_is_a_span_until_that_is_done(
    spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(outcome: Any) -> Any:
        await asyncio.sleep(0.01)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    good = spanweir.tool("good")(lambda: asyncio.ensure_future(work({"n": 1})))
    bad = spanweir.tool("bad")(lambda: asyncio.ensure_future(work(KeyError("k"))))
    stopped = spanweir.tool("stopped")(lambda: asyncio.ensure_future(work(1)))

    async def main() -> None:
        task = good()
        assert isinstance(task, asyncio.Task)
        assert spans.all() == []
        assert await task == {"n": 1}
        unseen = bad()
        cancelled = stopped()
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait([unseen, cancelled])

    asyncio.run(main())
    gc.collect()
    assert "Task exception was never retrieved" in caplog.text
    assert spans.content("execute_tool good", "gen_ai.tool.call.result") == {"n": 1}
    assert (spans["execute_tool bad"].attributes or {})["error.type"] == "KeyError"
    assert (spans["execute_tool stopped"].attributes or {})["error.type"] == "asyncio.exceptions.CancelledError"
    with ThreadPoolExecutor(1) as pool:
        submitted = spanweir.tool("submitted")(lambda: pool.submit(str, 7))
        assert submitted().result(10) == "7"
    assert spans.content("execute_tool submitted", "gen_ai.tool.call.result") == "7"


def test_a_function_that_returns_a_coroutine_is_a_span_as_long_as_that(spans: Spans) -> None:
    @spanweir.tool
    async def look(n: int) -> int:
        return n

    @spanweir.chat("m")
    def ask(messages: str) -> Any:
        async def answer() -> str:
            await asyncio.sleep(0.01)
            await look(1)
            if messages == "bad":
                raise ValueError(messages)
            return "yes"

        return answer()

    assert asyncio.run(ask("hi")) == "yes"
    asked = spans["chat m"]
    assert spans.content("chat m", "gen_ai.output.messages") == [message("assistant", "yes")]
    assert (asked.end_time or 0) - (asked.start_time or 0) >= 10_000_000
    assert parent_of(spans["execute_tool look"]) == id_of(asked)
    with pytest.raises(ValueError, match="bad"):
        asyncio.run(ask("bad"))
    assert [span.status.status_code for span in spans.all() if span.name == "chat m"][1] is StatusCode.ERROR


def test_a_generator_is_one_span_and_leaks_no_context(spans: Spans) -> None:
    @spanweir.chat("m")
    def stream(messages: str) -> Iterator[str]:
        with spanweir.tool("inside"):
            pass
        yield "a"
        yield "b"

    for _ in stream("hi"):
        assert not trace.get_current_span().get_span_context().is_valid
        with spanweir.workflow("consumer"):
            pass
    span = spans["chat m"]
    assert parent_of(spans["execute_tool inside"]) == id_of(span)
    assert all(parent_of(s) is None for s in spans.all() if s.name == "invoke_workflow consumer")
    assert spans.content("chat m", "gen_ai.output.messages") == [message("assistant", "ab")]
    attributes = dict(span.attributes or {})
    assert attributes["gen_ai.request.stream"] is True
    assert float(attributes["gen_ai.response.time_to_first_chunk"]) > 0


def test_a_generator_keeps_send_throw_and_return(spans: Spans) -> None:
    @spanweir.workflow
    def echo() -> Any:
        try:
            got = yield "ready"
            yield got
        except ValueError:
            yield "caught"
        return "done"

    run = echo()
    assert next(run) == "ready"
    assert run.send("x") == "x"
    assert run.throw(ValueError()) == "caught"
    with pytest.raises(StopIteration) as stop:
        next(run)
    assert stop.value.value == "done"
    assert spans["invoke_workflow echo"].status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("how", ["close", "collect"])
def test_a_generator_that_is_never_finished_ends_its_span(spans: Spans, how: str) -> None:
    @spanweir.chat("m")
    def stream() -> Iterator[str]:
        yield "a"
        yield "b"

    run = stream()
    next(run)
    if how == "close":
        run.close()
    del run
    gc.collect()
    assert spans.content("chat m", "gen_ai.output.messages") == [message("assistant", "a")]
    assert spans["chat m"].status.status_code is StatusCode.UNSET


def test_async_generators(spans: Spans) -> None:
    @spanweir.chat("m")
    async def stream(messages: str) -> AsyncIterator[str]:
        yield "a"
        await asyncio.sleep(0)
        yield "b"

    async def main() -> list[str]:
        unfinished = stream("left")
        await unfinished.__anext__()
        await unfinished.aclose()
        return [item async for item in stream("hi")]

    assert asyncio.run(main()) == ["a", "b"]
    outputs = [json.loads(str((span.attributes or {})["gen_ai.output.messages"])) for span in spans.all()]
    assert outputs == [[message("assistant", "a")], [message("assistant", "ab")]]


def test_an_async_generator_without_an_event_loop_ends_its_span(spans: Spans) -> None:
    @spanweir.chat("m")
    async def stream() -> AsyncIterator[str]:
        yield "a"

    run = stream()
    with pytest.raises(StopIteration):
        run.__anext__().send(None)
    del run
    gc.collect()
    assert len(spans.all()) == 1


class ClientStream:
    """As the streams of model clients are: iterable, closable, a context manager, with attributes of its own."""

    response = "the response"

    def __init__(self) -> None:
        self._items = iter(["x", "y"])
        self.closed = False

    def __bool__(self) -> bool:
        return False

    def __iter__(self) -> "ClientStream":
        return self

    def __next__(self) -> str:
        return next(self._items)

    def __enter__(self) -> "ClientStream":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self.closed = True


def test_a_returned_stream_is_observed_to_its_end(spans: Spans) -> None:
    inner = ClientStream()

    @spanweir.chat("m")
    def create(messages: str) -> ClientStream:
        return inner

    with create("hi") as stream:
        assert stream.response == "the response"
        assert isinstance(stream, ClientStream)
        assert not stream
        assert spans.all() == []
        assert list(stream) == ["x", "y"]
    assert inner.closed
    assert spans.content("chat m", "gen_ai.output.messages") == [message("assistant", "xy")]


def test_session_user_tags_and_metadata(spans: Spans) -> None:
    with spanweir.workflow("w"):
        with spanweir.agent("a"):
            spanweir.update_current_trace(session="s", user="u", tags={"env": "test"}, metadata={"k": [1]})
        with spanweir.chat("m"):
            spanweir.update_current_trace(tags=["x", "y"], metadata={"l": 2})
    for name in ("invoke_workflow w", "invoke_agent a", "chat m"):
        attributes = dict(spans[name].attributes or {})
        assert attributes["gen_ai.conversation.id"] == attributes["session.id"] == "s"
        assert attributes["user.id"] == "u"
    root = dict(spans["invoke_workflow w"].attributes or {})
    assert root["mlflow.traceTag.env"] == "test"
    assert root["tag.tags"] == ("x", "y")
    assert json.loads(str(root["metadata"])) == {"k": [1], "l": 2}


def test_update_outside_a_trace_does_nothing(spans: Spans) -> None:
    spanweir.update_current_trace(session="s")
    assert spans.all() == []


def test_traces_do_not_share_their_session(spans: Spans) -> None:
    with spanweir.workflow("one"):
        spanweir.update_current_trace(session="s")
    with spanweir.workflow("two"):
        pass
    assert "session.id" not in (spans["invoke_workflow two"].attributes or {})


def test_explicit_spans_across_threads_never_touch_the_current_context(spans: Spans) -> None:
    with spanweir.workflow("current"):
        current = trace.get_current_span()
        root = spanweir.agent("root", input="q", session="s").start()
        child = spanweir.tool("t", call_id="c").start(parent=root)
        assert trace.get_current_span() is current
        threads = [threading.Thread(target=child.end), threading.Thread(target=root.end)]
        for thread in threads:
            thread.start()
            thread.join()
    assert parent_of(spans["invoke_agent root"]) is None
    assert parent_of(spans["execute_tool t"]) == id_of(spans["invoke_agent root"])
    assert spans["invoke_workflow current"].context.trace_id != spans["invoke_agent root"].context.trace_id


def test_a_parent_in_another_process(spans: Spans) -> None:
    root = spanweir.workflow("root").start()
    headers = root.inject()
    assert set(headers) >= {"traceparent"}
    child = spanweir.agent("far").start(parent=dict(headers), start_time_ns=1_000)
    child.end(2_000)
    child.end()
    root.end()
    far = spans["invoke_agent far"]
    assert parent_of(far) == id_of(spans["invoke_workflow root"])
    assert far.parent is not None
    assert far.parent.is_remote
    assert (far.start_time, far.end_time) == (1_000, 2_000)


def test_threads_carry_the_context(spans: Spans) -> None:
    @spanweir.tool
    def work(n: int) -> int:
        return n

    with spanweir.workflow("w"), ThreadPoolExecutor(2) as pool:
        list(pool.map(spanweir.carry(work), range(3)))
        thread = threading.Thread(target=spanweir.carry(work), args=(9,))
        thread.start()
        thread.join()
    work(10)
    parents = [parent_of(span) for span in spans.all() if span.name == "execute_tool work"]
    assert parents == [id_of(spans["invoke_workflow w"])] * 4 + [None]


def test_an_application_span_between_is_a_parent_too(spans: Spans) -> None:
    application = state.provider().get_tracer("application")
    with spanweir.workflow("w"), application.start_as_current_span("plain"), spanweir.tool("t"):
        pass
    assert parent_of(spans["execute_tool t"]) == id_of(spans["plain"])


def refuse(value: str) -> None:
    try:
        int(value)
    except ValueError as error:
        raise ValueError(f"cannot do anything with {value}\n  of many\n  lines: {value}") from error


@pytest.mark.parametrize("mode", ["NO_CONTENT", "false", "no such mode"])
def test_content_off_leaves_nothing(spans: Spans, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setenv(policy.CAPTURE_VARIABLE, mode)
    state.set_policy(None)

    class Untouchable:
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(f"{name} was read")

    @spanweir.chat("m")
    def complete(messages: Any, system: str = "secret") -> Any:
        return {"choices": [{"message": {"content": "secret"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}

    with spanweir.workflow("w", input="secret"):
        complete([{"role": "user", "content": "secret"}, Untouchable()])
        spanweir.retrieval("kb")(lambda query: ["secret"])("secret")
        spanweir.tool("t")(lambda key: "secret")(key="secret")
        with spanweir.evaluation("e", input="secret") as judge:
            judge.set_score(1.0, explanation="secret")
        with suppress(ValueError):
            spanweir.tool("fails")(refuse)("secret")
    for span in spans.all():
        assert "secret" not in span.to_json()
    failed = spans["execute_tool fails"]
    assert failed.status.description == "ValueError"
    assert "in refuse" in str((failed.events[0].attributes or {})["exception.stacktrace"])
    assert (spans["chat m"].attributes or {})["gen_ai.usage.input_tokens"] == 1


def test_redaction_and_its_failure(spans: Spans) -> None:
    def redact(key: str, value: Any) -> Any:
        if key == "gen_ai.tool.call.arguments":
            return {**value, "card": "***"}
        if key == "gen_ai.tool.call.result":
            raise RuntimeError("the hook is broken")
        return None

    state.set_policy(policy.Policy(redact=redact))
    with spanweir.workflow("w", input="gone"):
        spanweir.tool("pay")(lambda card: "secret result")("4111")
    assert spans.content("execute_tool pay", "gen_ai.tool.call.arguments") == {"card": "***"}
    assert "hook failed" in spans.content("execute_tool pay", "gen_ai.tool.call.result")
    assert "gen_ai.input.messages" not in (spans["invoke_workflow w"].attributes or {})


def test_the_explanation_of_a_verdict_is_content(spans: Spans) -> None:
    state.set_policy(
        policy.Policy(redact=lambda key, value: value.replace("Ada", "*") if isinstance(value, str) else 0)
    )
    with spanweir.evaluation("e") as judge:
        judge.set_score(0.5, explanation="Ada was wrong")
    with spanweir.evaluation("only a text") as judge:
        judge.set_score(explanation="Ada was right")
    assert (spans["evaluate e"].attributes or {})["gen_ai.evaluation.explanation"] == "* was wrong"
    assert [event.name for event in spans["evaluate only a text"].events] == ["gen_ai.evaluation.result"]


@pytest.mark.parametrize("on_spans", [False, True])
def test_content_as_events(spans: Spans, on_spans: bool) -> None:
    from opentelemetry._logs import get_logger_provider
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

    records = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(records))
    state.set_policy(policy.Policy(on_spans=on_spans, on_events=True))
    state.set_logger_provider(provider)
    try:
        with spanweir.chat("m", input="hi") as span:
            span.set_output("ho")
    finally:
        state.set_logger_provider(None)
    assert get_logger_provider() is not provider
    assert ("gen_ai.input.messages" in (spans["chat m"].attributes or {})) is on_spans
    record = records.get_finished_logs()[0].log_record
    assert record.event_name == "gen_ai.client.inference.operation.details"
    assert record.span_id == id_of(spans["chat m"])
    assert dict(record.attributes or {})["gen_ai.request.model"] == "m"
    assert dict(record.attributes or {})["gen_ai.output.messages"][0]["role"] == "assistant"


def test_arguments_that_misbehave_reach_nobody(spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    class Hostile(dict[str, Any]):
        def items(self) -> Any:
            raise RuntimeError("items")

        def copy(self) -> Any:
            raise RuntimeError("copy")

        def __repr__(self) -> str:
            raise RuntimeError("repr")

    class Model:
        __pydantic_fields__ = property(lambda self: 1 / 0)

        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    @spanweir.agent
    def run(*things: Any, **more: Any) -> Any:
        return Hostile(a=1)

    with caplog.at_level(logging.ERROR):
        assert run(Hostile(), Model(), object(), object, key=lambda: 1) == {"a": 1}
    assert len(spans.all()) == 1
    assert not caplog.records


def test_without_a_provider_nothing_is_recorded_and_everything_works() -> None:
    state.set_provider(trace.NoOpTracerProvider())
    try:

        @spanweir.chat("m")
        def complete(messages: str) -> str:
            return messages

        assert complete("x") == "x"
        with spanweir.workflow("w", input="i") as span:
            span.set_output("o")
            span.record_exception(ValueError())
            span.first_chunk()
            spanweir.update_current_trace(session="s")
        span.end()
    finally:
        state.set_provider(None)


def test_a_block_that_is_left_in_another_context_says_nothing(spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    operation = spanweir.workflow("w")
    contextvars.copy_context().run(operation.__enter__)
    contextvars.copy_context().run(operation.__exit__, None, None, None)
    assert spans["invoke_workflow w"].end_time
    assert not caplog.records
    assert not trace.get_current_span().get_span_context().is_valid


def test_one_operation_entered_by_several_tasks(spans: Spans) -> None:
    operation = spanweir.tool("t")

    async def block(first: asyncio.Event, then: asyncio.Event, label: str) -> None:
        async with operation as span:
            span.set_attribute("label", label)
            first.set()
            await then.wait()
            assert trace.get_current_span().get_span_context().span_id == int(span.span_id, 16)

    async def main() -> None:
        one, two = asyncio.Event(), asyncio.Event()
        await asyncio.gather(block(one, two, "one"), block(two, one, "two"))

    asyncio.run(main())
    assert sorted(str((span.attributes or {})["label"]) for span in spans.all()) == ["one", "two"]
    assert all(span.status.status_code is StatusCode.UNSET for span in spans.all())


def test_an_argument_that_does_not_exist_is_an_error_that_names_those_that_do() -> None:
    with pytest.raises(TypeError, match="no argument 'temprature', there are provider, temperature"):
        spanweir.chat("m", temprature=1)  # type: ignore[call-overload]


@pytest.mark.parametrize("mode", ["off", "redacted", "on"])
def test_content_in_log_records_of_others(mode: str) -> None:
    from opentelemetry._logs import LogRecord
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

    hook = {"redacted": lambda key, value: json.loads(json.dumps(value).replace("secret", "***"))}.get(mode)
    state.set_policy(policy.Policy(on_spans=mode != "off", redact=hook))
    kept = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(records.Governed(kept)))
    logger = provider.get_logger("somebody else's")
    content = {
        "gen_ai.input.messages": [{"role": "user", "parts": [{"content": "secret"}]}],
        "gen_ai.request.model": "m",
    }
    logger.emit(LogRecord(event_name="gen_ai.client.inference.operation.details", attributes=content))
    logger.emit(LogRecord(event_name="gen_ai.user.message", body={"content": "secret"}))
    logger.emit(LogRecord(body="an ordinary secret"))
    state.set_policy(None)
    details, message, line = (record.log_record for record in kept.get_finished_logs())
    assert ("secret" in str(details.attributes), "secret" in str(message.body)) == (mode == "on", mode == "on")
    assert ("***" in str(details.attributes), "***" in str(message.body)) == (mode == "redacted", mode == "redacted")
    assert (details.attributes or {})["gen_ai.request.model"] == "m"
    assert line.body == "an ordinary secret"
