"""Two instrumentations that record the same model call give one span."""

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Tracer, set_span_in_context, use_span

import spanweir.instrumentation as spanweir
from spanweir.instrumentation import setup
from tests.support.otlp_sink import Sink, attributes, sink


@pytest.fixture
def exported() -> Iterator[tuple[TracerProvider, Sink]]:
    setup.reset()
    with sink() as receiver:
        provider = TracerProvider(shutdown_on_exit=False)
        spanweir.init(endpoint=receiver.endpoint, tracer_provider=provider)
        yield provider, receiver
        setup.reset()


CALL = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}


def chat(tracer: Tracer, name: str, **more: Any) -> Any:
    return tracer.start_as_current_span(name, attributes={**CALL, **more})


def test_the_outer_span_stays_and_learns_what_the_inner_knows(exported: tuple[TracerProvider, Sink]) -> None:
    provider, receiver = exported
    framework, client, http = (provider.get_tracer(name) for name in ("framework", "client", "http"))
    with chat(framework, "outer") as outer:
        with chat(client, "inner") as inner:
            with http.start_as_current_span("POST"):
                pass
            inner.set_attributes(
                {"gen_ai.response.id": "r", "gen_ai.input.messages": "[]", "gen_ai.usage.input_tokens": 1}
            )
        outer.set_attribute("gen_ai.usage.input_tokens", 2)
    assert spanweir.flush(10)
    assert sorted(span.name for span in receiver.spans) == ["POST", "outer"]
    got = attributes(receiver.named("outer"))
    assert (got["gen_ai.response.id"], got["gen_ai.usage.input_tokens"]) == ("r", 2)
    assert "gen_ai.input.messages" not in got
    assert receiver.named("POST").parent_span_id == receiver.named("outer").span_id


@pytest.mark.parametrize("more", [{"gen_ai.request.model": "other"}, {"gen_ai.operation.name": "embeddings"}])
def test_other_calls_below_a_call_stay(exported: tuple[TracerProvider, Sink], more: dict[str, Any]) -> None:
    provider, receiver = exported
    tracer = provider.get_tracer("t")
    with chat(tracer, "outer"), chat(tracer, "inner", **more):
        pass
    assert spanweir.flush(10)
    assert sorted(span.name for span in receiver.spans) == ["inner", "outer"]


def test_calls_below_a_tool_below_a_call_stay(exported: tuple[TracerProvider, Sink]) -> None:
    provider, receiver = exported
    tracer = provider.get_tracer("t")
    with chat(tracer, "outer"), tracer.start_as_current_span("tool"), chat(tracer, "inner"):
        pass
    assert spanweir.flush(10)
    assert len(receiver.spans) == 3


@pytest.mark.parametrize(("kind", "left"), [("LLM", ["outer"]), ("AGENT", ["inner", "outer"])])
def test_a_framework_that_says_what_a_span_is_when_it_ends(
    exported: tuple[TracerProvider, Sink], kind: str, left: list[str]
) -> None:
    provider, receiver = exported
    framework = provider.get_tracer("openinference.instrumentation.llama_index")
    outer = framework.start_span("outer")
    with use_span(outer), chat(provider.get_tracer("client"), "inner") as inner:
        inner.set_attribute("gen_ai.response.id", "r")
    outer.set_attributes({"openinference.span.kind": kind, "llm.model_name": "m"})
    outer.end()
    assert spanweir.flush(10)
    assert sorted(span.name for span in receiver.spans) == left
    assert ("gen_ai.response.id" in attributes(receiver.named("outer"))) == (kind == "LLM")


@pytest.mark.parametrize("streams", [1, 2])
def test_a_stream_whose_call_begins_when_it_is_read(exported: tuple[TracerProvider, Sink], streams: int) -> None:
    """The client's span is then a sibling of the framework's; of two open streams nobody knows which it belongs to."""
    provider, receiver = exported
    framework = provider.get_tracer("openinference.instrumentation.llama_index")
    query = framework.start_span("query")
    with use_span(query):
        begun = [framework.start_span("begin") for _ in range(streams)]
        opened = [framework.start_span("stream", set_span_in_context(span)) for span in begun]
        for span in begun:
            span.end()
        with chat(provider.get_tracer("client"), "inner") as inner:
            inner.set_attribute("gen_ai.response.id", "r")
    for span in [*opened, query]:
        span.set_attributes({"openinference.span.kind": "LLM" if span is not query else "CHAIN", "llm.model_name": "m"})
        span.end()
    assert spanweir.flush(10)
    names = sorted(span.name for span in receiver.spans)
    assert names == ["begin"] * streams + ["inner"] * (streams - 1) + ["query"] + ["stream"] * streams
    if streams == 1:
        assert attributes(receiver.named("stream"))["gen_ai.response.id"] == "r"


def test_calls_side_by_side_stay_with_their_own(exported: tuple[TracerProvider, Sink]) -> None:
    provider, receiver = exported
    framework = provider.get_tracer("openinference.instrumentation.llama_index")
    outer = [framework.start_span(f"outer {n}") for n in range(2)]
    inner = []
    for n, span in enumerate(outer):
        with use_span(span):
            inner.append(provider.get_tracer("client").start_span("inner", attributes={**CALL, "call": n}))
    for span in [*inner, *outer]:
        span.set_attributes({"openinference.span.kind": "LLM", "llm.model_name": "m"})
        span.end()
    assert spanweir.flush(10)
    assert [attributes(receiver.named(f"outer {n}"))["call"] for n in range(2)] == [0, 1]
    assert len(receiver.spans) == 2


def test_our_own_decorator_around_an_instrumented_client(exported: tuple[TracerProvider, Sink]) -> None:
    provider, receiver = exported

    @spanweir.chat("m", provider="p")
    def complete(messages: str) -> str:
        with chat(provider.get_tracer("client"), "chat m") as inner:
            inner.set_attribute("gen_ai.usage.output_tokens", 7)
        return "yes"

    complete("?")
    assert spanweir.flush(10)
    got = attributes(receiver.named("chat m"))
    assert got["gen_ai.provider.name"] == "p"
    assert got["gen_ai.usage.output_tokens"] == 7
    assert "yes" in got["gen_ai.output.messages"]
