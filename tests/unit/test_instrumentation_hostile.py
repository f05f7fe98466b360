"""Whatever an application passes, it gets its own results and exceptions back, at once, and no span is lost."""

import asyncio
import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import StatusCode

import spanweir.instrumentation as spanweir
from spanweir.instrumentation import setup
from tests.support.otlp_sink import Sink, attributes, sink


class Raises:
    """Every protocol that somebody might use on a value that is not theirs."""

    def __repr__(self) -> str:
        raise RuntimeError("repr")

    __str__ = __repr__

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __len__(self) -> int:
        raise RuntimeError("len")

    def __iter__(self) -> Any:
        raise RuntimeError("iter")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq")

    def __hash__(self) -> int:
        raise RuntimeError("hash")

    def __bool__(self) -> bool:
        raise RuntimeError("bool")


class Meta(type):
    def __getattr__(cls, name: str) -> Any:
        raise RuntimeError(name)


class OfMeta(metaclass=Meta):
    pass


class Pretends:
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError("class")


class NoFields:
    __slots__ = ("x",)


class HidesFields:
    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("dict")


class Mapping(dict[str, int]):
    def items(self) -> Any:
        raise RuntimeError("items")

    def get(self, *_: Any) -> Any:
        raise RuntimeError("get")


class Sequence(list[int]):
    def __iter__(self) -> Any:
        raise RuntimeError("iter")


class Text(str):
    def __len__(self) -> int:
        raise RuntimeError("len")

    def encode(self, *_: Any) -> Any:
        raise RuntimeError("encode")


class SilentError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message")


def itself() -> list[Any]:
    value: list[Any] = [{}]
    value[0]["again"] = value
    return value


def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(10_000):
        value = [value]
    return value


VALUES: list[Callable[[], Any]] = [
    Raises, OfMeta, lambda: OfMeta, Pretends, NoFields, HidesFields, lambda: Mapping(a=1), lambda: Sequence([1]),
    lambda: Text("text"), itself, deep, lambda: range(10**12), lambda: list(range(12_000)), lambda: 10**5000,
    lambda: {(1, 2): None, None: 1, True: {1}}, lambda: "\ud800", lambda: {"\ud800": float("nan")}, threading.Lock,
    lambda: memoryview(b"x"), lambda: asyncio, lambda: {"inside": [Raises()]}, lambda: "x" * 300_000,
]  # fmt: skip
OPERATIONS = [
    spanweir.workflow,
    spanweir.chat,
    spanweir.embeddings,
    spanweir.retrieval,
    spanweir.tool,
    spanweir.evaluation,
]


@pytest.fixture(scope="module")
def receiver() -> Iterator[Sink]:
    setup.reset()
    with sink() as running:
        spanweir.init(endpoint=running.endpoint, tracer_provider=TracerProvider(shutdown_on_exit=False))
        yield running
        setup.reset()


@pytest.mark.parametrize("make", VALUES, ids=range(len(VALUES)))
def test_the_application_notices_nothing(receiver: Sink, make: Callable[[], Any]) -> None:
    worker = setup.worker()
    assert worker is not None
    before = dataclasses.replace(worker.counters)
    value = make()
    for operation in OPERATIONS:
        named: Any = operation("name")
        assert named(lambda x, value=value: value)(value) is value
        assert named(lambda **given: given["x"])(x=value, model=value) is value
        with named as span:
            span.set_input(value)
            span.set_output(value)
            span.set_system(value)
            span.set_tools(value)
            span.set_attribute("any", value)
            span.set_usage(value, value)
            span.set_response(id=value, model=value, finish_reasons=value)
            span.set_score(value, label=value, explanation=value)
            spanweir.update_current_trace(session=value, user=value, tags={"x": value}, metadata={"x": value})
            spanweir.update_current_trace(tags=value if type(value) in (str, list, range) else [value])
        with suppress(SilentError), named:
            raise SilentError(value)
    assert spanweir.flush(60), worker.counters.last_error
    assert worker.counters.ended - before.ended == 4 * len(OPERATIONS)
    assert worker.counters.dropped_failed == before.dropped_failed, worker.counters.last_error


def test_a_span_of_others_that_cannot_be_encoded_is_mended(receiver: Sink) -> None:
    worker = setup.worker()
    assert worker is not None
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(worker)
    with provider.get_tracer("other").start_as_current_span("half \ud83d", attributes={"huge": 1 << 70}) as span:
        span.set_attribute("cut", "half \ud83d")
        span.set_attribute("list", ["half \ud83d", 1])
        span.add_event("event \ud83d", {"text": "half \ud83d"})
        span.set_status(StatusCode.ERROR, "half \ud83d")
    assert spanweir.flush(60)
    got = receiver.named("half ?")
    assert attributes(got) == {"huge": "<int of 71 bits>", "cut": "half ?", "list": ["half ?", 1]}
    assert (got.status.message, got.events[0].name) == ("half ?", "event ?")


def test_attributes_of_any_kind_are_described(receiver: Sink) -> None:
    given = {"lock": Raises(), "self": itself(), "many": range(10**12), "huge": 10**30, "list": [1, "a", {"b": [2]}]}
    with spanweir.tool("described") as span:
        for key, value in given.items():
            span.set_attribute(key, value)  # type: ignore[arg-type]
    with spanweir.agent("told", session=Raises(), user=7):  # type: ignore[call-overload]
        pass
    assert spanweir.flush(60)
    got = attributes(receiver.named("execute_tool described"))
    assert "RuntimeError" in got["lock"]
    assert got["huge"] == "<int of 100 bits>"
    assert got["many"] == "range(0, 1000000000000)"
    assert json.loads(got["list"][2]) == {"b": [2]}
    assert attributes(receiver.named("invoke_agent told"))["user.id"] == 7
