"""Log records and spans find each other in any order; evaluations become assessments."""

import itertools
from collections import Counter
from typing import Any

from spanweir.collector.assembly import Options
from spanweir.collector.assembly.join import Joiner
from spanweir.collector.processors.api import Item
from spanweir.schemas.genai import GenAISpan, Response
from spanweir.schemas.mapping import Mapper
from spanweir.schemas.options import Size
from spanweir.schemas.raw import RawLog, RawSpan, Scope
from tests.support.spans import TRACE, Bench, identity, span

MAPPER = Mapper()


def log(span_id: str, name: str = "gen_ai.user.message", at: int = 1, **body: Any) -> RawLog:
    return RawLog(
        trace_id=TRACE if span_id else "", span_id=identity(span_id), event_name=name, time_ns=at, body=body or None
    )


def feed(joiner: Joiner, *arrivals: RawSpan | RawLog, now: float = 0.0) -> list[tuple[str, list[int]]]:
    """Arrivals one by one; what comes out, as span name and times of its records."""
    out = []
    for one in arrivals:
        spans = [one] if isinstance(one, RawSpan) else []
        logs = [one] if isinstance(one, RawLog) else []
        for raw, found in joiner.join(spans, logs, now).spans:
            joiner.note([Item(raw, MAPPER.map(raw, found), found)], now)
            out.append((raw.name, [record.time_ns for record in found]))
    return out


def test_any_order_ends_with_all_records() -> None:
    parts = [span("llm", op="chat"), log("llm", at=1, content="q"), log("llm", "gen_ai.choice", at=2, message="a")]
    for order in itertools.permutations(parts):
        assert feed(Joiner(), *order)[-1] == ("llm", [1, 2]), order


def test_a_record_that_comes_twice_counts_once() -> None:
    record = log("llm", content="q")
    assert feed(Joiner(), record, span("llm", op="chat"), record)[-1] == ("llm", [1])


def test_a_span_that_comes_again_keeps_its_records() -> None:
    llm = span("llm", op="chat")
    assert feed(Joiner(), llm, log("llm", content="q"), llm)[-1] == ("llm", [1])


def test_an_applications_log_lines_are_not_held() -> None:
    joiner = Joiner()
    line = RawLog(trace_id=TRACE, span_id=identity("llm"), body="user logged in", attributes={"code.lineno": 7})
    assert feed(joiner, line) == []
    assert joiner.size_bytes == 0


def test_a_span_with_content_is_not_held() -> None:
    joiner = Joiner()
    feed(joiner, span("llm", op="chat", asked="q", said="a"))
    assert joiner.size_bytes == 0


def test_what_waits_too_long_is_let_go_and_counted() -> None:
    counted: dict[str, int] = {}
    joiner = Joiner(Options(join_wait=60), count=lambda name, n: counted.update({name: counted.get(name, 0) + n}))
    feed(joiner, log("lost", content="q"), span("llm", op="chat"))
    joiner.tick(59.0)
    assert joiner.busy
    joiner.tick(60.0)
    assert not joiner.busy
    assert joiner.size_bytes == 0
    assert counted == {"spanweir_join_expired_logs": 1}


def test_memory_is_bounded() -> None:
    joiner = Joiner(Options(join_max=100_000))
    for i in range(1000):
        feed(joiner, log(f"{i:x}", content="x" * 1000))
    assert joiner.size_bytes <= 100_000


def test_what_is_held_says_where_to_read_again_from() -> None:
    joiner = Joiner()
    assert joiner.low() == 0
    joiner.join([], [log("a", content="q")], 0.0, 17)
    joiner.join([], [log("b", content="q")], 0.0, 18)
    assert joiner.low() == 17
    joiner.join([span("a", op="chat")], [], 0.0, 19)
    assert joiner.low() == 18


def evaluation(span_id: str = "", **attributes: Any) -> RawLog:
    given = {f"gen_ai.evaluation.{key.replace('_', '.')}": value for key, value in attributes.items()}
    if "gen_ai.evaluation.response.id" in given:
        given["gen_ai.response.id"] = given.pop("gen_ai.evaluation.response.id")
    return RawLog(
        trace_id=TRACE if span_id else "", span_id=identity(span_id), event_name="gen_ai.evaluation.result",
        time_ns=5_000_000, attributes=given, scope=Scope(name="judge"),
    )  # fmt: skip


def test_an_evaluation_is_an_assessment_of_its_span() -> None:
    log_ = evaluation("llm", name="Relevance", score_value=0.8, score_label="pass", explanation="on topic")
    ((trace_id, found),) = Joiner().join([], [log_], 0.0).assessments
    assert (trace_id, found.span_id, found.name, found.value) == (TRACE, identity("llm"), "Relevance", "0.8")
    assert (found.rationale, found.source_id, found.metadata, found.created_ms) == (
        "on topic", "judge", {"label": "pass"}, 5,
    )  # fmt: skip
    ((_, again),) = Joiner().join([], [log_], 0.0).assessments
    assert again == found, "the same id however often it comes"


def test_an_evaluation_finds_its_call_by_response_id_before_and_after() -> None:
    llm = span("llm", op="chat")
    said = GenAISpan(kind="llm", response=Response(id="resp-1"))
    record = evaluation(name="Tone", score_label="kind", response_id="resp-1")

    after = Joiner()
    after.note([Item(llm, said)], 0.0)
    ((trace_id, found),) = after.join([], [record], 0.0).assessments
    assert (trace_id, found.span_id, found.value) == (TRACE, identity("llm"), '"kind"')

    before = Joiner()
    assert before.join([], [record], 0.0).assessments == []
    assert list(before.settled()) == []
    before.note([Item(llm, said)], 0.0)
    assert list(before.settled()) == [(TRACE, found)]
    assert list(before.settled()) == []


def test_the_newest_ten_thousand_responses_are_known() -> None:
    joiner, count = Joiner(), 45_000
    items = [Item(span(f"s{i}"), GenAISpan(kind="embedding", response=Response(id=f"r{i}"))) for i in range(count)]
    joiner.note(items, 0.0)

    def known(i: int) -> bool:
        record = evaluation(name="Tone", score_label="kind", response_id=f"r{i}")
        return bool(joiner.join([], [record], 0.0).assessments)

    assert all(known(i) for i in range(count - 10_000, count))
    assert not any(known(i) for i in range(count - 20_000))


def test_openinference_annotations_are_assessments_of_span_trace_and_session() -> None:
    bench = Bench()
    annotations = {
        "annotations.0.annotation.name": "helpful",
        "annotations.0.annotation.score": 1.0,
        "annotations.0.annotation.annotator_kind": "HUMAN",
        "annotations.0.annotation.metadata": '{"who": "ann", "round": 2}',
        "trace.evaluations.0.evaluation.name": "solved",
        "trace.evaluations.0.evaluation.label": "no",
        "session.annotations.0.annotation.name": "mood",
        "session.annotations.0.annotation.label": "happy",
        "session.annotations.0.annotation.metadata": "seen",
    }
    attributes = {"openinference.span.kind": "LLM", "session.id": "s-1", **annotations}
    bench.send(span("llm", attributes=attributes))
    found = {one.name: (one.span_id, one.value, one.source_type, one.metadata) for one in bench.row.assessments}
    assert found == {
        "helpful": (identity("llm"), "1.0", "HUMAN", {"who": "ann", "round": "2"}),
        "solved": (None, '"no"', "CODE", {}),
        "mood": (None, '"happy"', "CODE", {"metadata": "seen", "mlflow.trace.session": "s-1"}),
    }


def test_evaluations_that_wait_for_one_response_are_bounded() -> None:
    counted: Counter[str] = Counter()
    joiner = Joiner(Options(join_max=Size(100_000)), count=lambda name, n: counted.update({name: n}))
    record = evaluation(name="Tone", score_label="kind", explanation="x" * 1000, response_id="never-comes")
    for now in range(1000):
        joiner.join([], [record], float(now))
        assert joiner.size_bytes <= 100_000
    assert counted["spanweir_join_expired_logs"] > 900
    joiner.tick(10_000.0)
    assert joiner.size_bytes == 0
    assert counted["spanweir_join_expired_logs"] == 1000
