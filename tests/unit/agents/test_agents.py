"""What holds for every coding agent: pass-through, settling, bounds, restart, tenants, bad input."""

from pathlib import Path
from typing import Any

import pytest

from spanweir.schemas.agents import Agents, Limits
from spanweir.schemas.raw import RawLog, RawSpan, Resource, Scope
from tests.support.agents import BASE_NS, SECOND, Record, Replay, load, records, shown, span_id, trace_id

GOLDEN = Path(__file__).parents[2] / "golden" / "agents"
CASES = sorted(path.parent for path in GOLDEN.glob("*/*/records.json"))
CLAUDE = Scope(name="com.anthropic.claude_code.tracing")
CLAUDE_EVENTS = Scope(name="com.anthropic.claude_code.events")


def case(name: str) -> list[Record]:
    return records(load(GOLDEN / name / "records.json"))


def interaction(n: int, prompt: str = "Hello", **more: Any) -> RawSpan:
    attributes = {"span.type": "interaction", "session.id": "s", "user_prompt": prompt, **more}
    at = BASE_NS + n * SECOND
    trace = f"{n:032x}"
    return RawSpan(trace_id=trace, span_id=f"{n:016x}", start_ns=at, end_ns=at + 1, attributes=attributes, scope=CLAUDE)


def request(n: int, **more: Any) -> RawSpan:
    attributes = {"span.type": "llm_request", "session.id": "s", "model": "m", "request_id": f"r{n}", **more}
    at = BASE_NS + n * SECOND
    return RawSpan(
        trace_id=f"{n:032x}",
        span_id=f"{n:08x}{n + 1:08x}",
        parent_id=f"{n:016x}",
        start_ns=at,
        end_ns=at + 1,
        attributes=attributes,
        scope=CLAUDE,
    )


# ------------------------------------------------------------------------------------------------ through


def test_spans_and_logs_of_others_pass_untouched_and_in_order() -> None:
    agents = Agents()
    spans = [RawSpan(trace_id=f"{n:032x}", span_id=f"{n:016x}", scope=Scope(name="openai")) for n in range(3)]
    logs = [RawLog(event_name="gen_ai.choice")]
    assert [a is b for a, b in zip(agents.spans(spans, BASE_NS), spans, strict=True)] == [True] * 3
    assert agents.logs(logs, BASE_NS)[0] is logs[0]
    assert agents.tick(BASE_NS + 60 * SECOND) == []


@pytest.mark.parametrize("service", ["gemini-cli", "opencode", "copilot-chat"])
def test_other_scopes_of_an_agents_process_are_its_own(service: str) -> None:
    """HTTP clients instrumented inside the tool: spans of traces that will not exist."""
    resource = Resource(attributes={"service.name": service})
    http = RawSpan(trace_id="a" * 32, span_id="b" * 16, name="POST", scope=Scope(name="undici"), resource=resource)
    agents = Agents()
    assert agents.spans([http], BASE_NS) == []


def test_standard_records_of_an_agents_process_are_joined_like_anybodys() -> None:
    verdict = RawLog(trace_id="a" * 32, span_id="b" * 16, event_name="gen_ai.evaluation.result", scope=CLAUDE_EVENTS)
    noise = RawLog(trace_id="a" * 32, span_id="b" * 16, event_name="plugin_loaded", scope=CLAUDE_EVENTS)
    assert Agents().logs([noise, verdict], BASE_NS) == [verdict]


def test_an_agents_span_is_found_among_spans_of_others_without_a_scope() -> None:
    ours = Resource(attributes={"service.name": "gemini-cli"})
    other = RawSpan(trace_id="a" * 32, span_id="b" * 16)
    http = RawSpan(trace_id="c" * 32, span_id="d" * 16, resource=ours)
    assert Agents().spans([other, http, other], BASE_NS) == [other, other]


def test_a_turn_goes_out_when_it_settles_and_again_when_it_is_amended() -> None:
    replay = Replay()
    replay.put([interaction(1), request(1, input_tokens=5, output_tokens=2)])
    replay.wait(0.5)
    assert replay.emitted == 0
    replay.wait(1.0)
    assert replay.emitted == 2
    said = RawLog(
        trace_id=f"{1:032x}",
        span_id=f"{1:016x}",
        time_ns=BASE_NS + SECOND,
        attributes={"event.name": "assistant_response", "response": "Hi", "request_id": "r1", "session.id": "s"},
        scope=CLAUDE_EVENTS,
    )
    replay.put([said])
    replay.wait(2.0)
    assert replay.emitted == 4
    assert len(replay.stored) == 2
    assert "Hi" in str(replay.stored[(f"{1:032x}", f"{1:016x}")].attributes["gen_ai.output.messages"])
    replay.wait(60)
    assert replay.emitted == 4


def test_a_turn_that_waits_for_its_tools_is_still_running() -> None:
    """No span tells of the turn's end: it is open while a call waits for tools, until nothing comes for a while."""
    sent = case("gemini_cli/logs_only")
    replay = Replay()

    def root() -> RawSpan:
        (found,) = (span for span in replay.stored.values() if span.name == "invoke_agent gemini-cli")
        return found

    replay.put(sent[:4])
    replay.wait(2)
    assert root().end_ns == 0
    replay.wait(20)
    assert root().end_ns == BASE_NS + SECOND * 140 // 1000
    replay.put(sent[4:])
    replay.wait(2)
    assert root().end_ns == BASE_NS + SECOND * 200 // 1000


def test_a_turn_that_keeps_growing_goes_out_in_between() -> None:
    replay = Replay()
    for n in range(12):
        replay.put([request(1, request_id=f"r{n}"), interaction(1)] if not n else [interaction(1, queued=n)])
        replay.wait(0.6)
    assert replay.emitted > 0


# ------------------------------------------------------------------------------------------------ late records


def test_a_late_prompt_that_moves_spans_leaves_no_copy_behind() -> None:
    """Gemini CLI with one id for all prompts: the second prompt's record arrives after its call was handed out."""
    sent = case("gemini_cli/two_turns")
    for record in sent:
        for key, value in record.attributes.items():
            if isinstance(value, str):
                record.attributes[key] = value.replace("########1", "").replace("########2", "")
    late = [r for r in sent if isinstance(r, RawLog) and r.attributes.get("prompt") == "Thanks"]
    replay = Replay()
    replay.put([r for r in sent if r not in late])
    replay.wait(30)
    assert len(shown(replay.stored)) == 1
    before = len(replay.stored)
    replay.put(list(late))
    replay.wait(30)
    assert len(shown(replay.stored)) == 2
    assert replay.retracted > 0
    assert len(replay.stored) == before + 1
    assert len({span for _, span in replay.stored}) == len(replay.stored)


def test_spans_that_come_after_their_records_replace_what_was_made_of_those() -> None:
    sent = case("codex/trace_and_logs")
    logs = [r for r in sent if isinstance(r, RawLog)]
    replay = Replay()
    replay.put(list(logs))
    replay.wait(30)
    assert [s["name"] for s in shown(replay.stored)[0]["spans"][0]["children"]].count("chat gpt-x") == 1
    replay.put([r for r in sent if isinstance(r, RawSpan)])
    replay.wait(30)
    whole = Replay()
    whole.put(sent)
    assert shown(replay.stored) == shown(whole.finish().stored)


# ------------------------------------------------------------------------------------------------ bounds


def test_memory_is_bounded_and_late_records_still_find_their_trace() -> None:
    replay = Replay(Limits(max_bytes=1 << 20, max_turn_bytes=256 << 10))
    for n in range(1, 400):
        replay.put([interaction(n, **{"session.id": f"s{n}"}), request(n, text="x" * 20_000)])
        replay.wait(1.2)
        assert replay.agents.held_bytes <= (1 << 20) + 50_000
    assert len(shown(replay.stored)) == 399
    replay.put([request(1, request_id="late", input_tokens=1, output_tokens=1)])
    replay.wait(2)
    first = next(t for t in shown(replay.stored) if t["trace_id"] == f"{1:032x}")
    assert first["spans"][0]["name"] == "invoke_agent claude-code"
    assert replay.agents.counters["late.claude-code"] > 0


def test_one_endless_turn_is_bounded_and_stays_one_trace() -> None:
    replay = Replay(Limits(max_turn_bytes=200_000, max_records=1000))
    replay.put([interaction(1, prompt="Go on")])
    for n in range(300):
        call = request(1, request_id=f"r{n}", text="x" * 5_000, input_tokens=1, output_tokens=1)
        call.span_id = f"{n + 100:016x}"
        replay.put([call])
        replay.wait(1.2)
        assert replay.agents.held_bytes < 250_000
    (trace,) = shown(replay.finish().stored)
    assert len(trace["spans"][0]["children"]) == 300
    assert trace["spans"][0]["attributes"]["gen_ai.input.messages"][0]["parts"][0]["content"] == "Go on"
    assert replay.retracted == 0


def test_silent_sessions_are_let_go_and_then_forgotten() -> None:
    replay = Replay()
    replay.put(case("opencode/title_and_tool"))
    replay.wait(20)
    assert replay.agents.low_water() == 1
    for _ in range(20):
        replay.wait(60)
    assert replay.agents.low_water() is None
    for _ in range(200):
        replay.wait(60)
    assert replay.agents.held_bytes == 0


# ------------------------------------------------------------------------------------------------ restart, tenants


@pytest.mark.parametrize("directory", CASES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_reading_again_from_the_low_water_gives_the_same_traces(directory: Path) -> None:
    """A process that dies in the middle: the next one reads the queue from the low water of the last."""
    sent = records(load(directory / "records.json"))
    whole = Replay()
    whole.put(sent)
    whole.finish()
    for cut in range(1, len(sent)):
        first = Replay()
        for record in sent[:cut]:
            first.put([record])
            first.wait(2)
        second = Replay()
        second.stored = dict(first.stored)
        low = first.agents.low_water() or cut
        for record in sent[low - 1 :]:
            second.put([record])
        second.finish()
        assert {k for k in whole.stored if k not in second.stored} == set()
        assert all(second.stored[k] == v for k, v in whole.stored.items())


def test_a_trace_has_the_route_of_its_spans_else_of_its_records() -> None:
    """Headers can be set for one signal alone."""
    agents = Agents()
    logs = [r for r in case("codex/logs_only") if isinstance(r, RawLog)]
    agents.logs(logs, BASE_NS, 1, route="logs")
    agents.spans([interaction(1)], BASE_NS, 2, route="spans")
    out = agents.tick(BASE_NS + 60 * SECOND)
    assert {agents.route_of(span.trace_id) for span in out if span.name.startswith("invoke_agent c")} == {
        "logs",
        "spans",
    }
    prompt = RawLog(
        trace_id=f"{1:032x}",
        span_id=f"{1:016x}",
        attributes={"event.name": "user_prompt", "session.id": "s"},
        scope=CLAUDE_EVENTS,
    )
    agents.logs([prompt], BASE_NS + 61 * SECOND, 3, route="logs")
    agents.spans([interaction(2)], BASE_NS + 61 * SECOND, 4, route="spans")
    assert {agents.route_of(s.trace_id) for s in agents.tick(BASE_NS + 90 * SECOND)} == {"spans"}


def test_one_session_of_two_tenants_is_two_sessions() -> None:
    logs = [r for r in case("codex/logs_only") if isinstance(r, RawLog)]
    agents = Agents()
    agents.logs(logs[:3], BASE_NS, 1, tenant="a")
    agents.logs(logs[3:], BASE_NS, 2, tenant="b")
    spans = agents.tick(BASE_NS + 60 * SECOND)
    prompts = [s for s in spans if s.name == "invoke_agent codex" and "List the files" in str(s.attributes)]
    assert len(prompts) == 1
    assert sum(s.name.startswith("chat") for s in spans if s.trace_id == prompts[0].trace_id) == 0


@pytest.mark.parametrize(("sequence", "apart"), [(1, False), (2, True)])
def test_a_later_turn_of_a_shared_trace_is_known_without_the_earlier(sequence: int, apart: bool) -> None:
    """Below TRACEPARENT; the earlier turn's records were let go, or read by a process that has ended since."""
    replay = Replay()
    turn = interaction(1, **{"interaction.sequence": sequence})
    turn.parent_id = "f" * 16
    replay.put([turn, request(1)])
    replay.finish()
    assert [trace["trace_id"] != turn.trace_id for trace in shown(replay.stored)] == [apart]


# ------------------------------------------------------------------------------------------------ options, bad input


@pytest.mark.parametrize("directory", CASES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_internal_spans_are_kept_on_demand_in_the_trace_of_their_turn(directory: Path) -> None:
    sent = records(load(directory / "records.json"))
    kept = Replay(Limits(keep_internal=True))
    kept.put(sent)
    kept.finish()
    plain = Replay()
    plain.put(sent)
    plain.finish()
    assert plain.stored.keys() <= kept.stored.keys()
    for trace in shown(plain.stored):
        whole = next(t for t in shown(kept.stored) if t["trace_id"] == trace["trace_id"])
        assert len(whole["spans"]) == len(trace["spans"])
    ours = {r.span_id for r in sent if isinstance(r, RawSpan)}
    assert {span for _, span in kept.stored} >= ours - {"05" * 8, "02" * 8}


@pytest.mark.parametrize("directory", CASES, ids=lambda path: f"{path.parent.name}-{path.name}")
@pytest.mark.parametrize("value", [None, "", "{", '[{"parts":[{"text":', [None], {"a": [1]}, b"\xff", -1, float("nan")])
def test_odd_values_cost_no_span(directory: Path, value: Any) -> None:
    """Every attribute in turn of every record is replaced by something that no version sends."""
    sent = records(load(directory / "records.json"))
    keys = {key for record in sent for key in record.attributes} - {"event.name", "span.type", "ai.operationId"}
    if not any(record.trace_id for record in sent):  # without session and trace nothing ties them together
        keys -= {"session.id", "conversation.id"}
    for key in sorted(keys):
        replay = Replay()
        odd = records(load(directory / "records.json"))
        for record in odd:
            if key in record.attributes:
                record.attributes[key] = value
        replay.put(odd)
        replay.finish()
        assert not [name for name in replay.agents.counters if name.startswith("failed.")], key
        assert replay.stored, key


def test_ids_of_test_records() -> None:
    assert len(trace_id("a1")) == 32
    assert len(span_id("01")) == 16
