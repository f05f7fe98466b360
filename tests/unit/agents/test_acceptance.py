"""The coding agents' rows of the acceptance matrix (semconv guide 7.6)."""

import json
from typing import Any

from spanweir.schemas.genai import GenAISpan, Text
from spanweir.schemas.mapping import Mapper
from tests.support.agents import Replay, records


def spans(scope: str, resource: str, entries: list[dict[str, Any]]) -> list[GenAISpan]:
    """What the mapper makes of what `Agents` makes of these records, model calls only."""
    replay = Replay()
    for record in records({"scope": scope, "resource": {"service.name": resource}, "records": entries}):
        replay.put([record])
    replay.finish()
    mapper = Mapper()
    found = [mapper.map(raw) for raw in (*replay.stored.values(), *(r for r in replay.passed if hasattr(r, "name")))]
    return [span for span in found if span is not None and span.kind == "llm"]


def test_claude_code_counts_the_cache_apart() -> None:
    attributes = {
        "span.type": "llm_request",
        "session.id": "s-1",
        "model": "claude-sonnet-4-5",
        "input_tokens": 7,
        "output_tokens": 9,
        "cache_read_tokens": 500,
        "cache_creation_tokens": 20,
        "request_id": "req_1",
    }
    root = {"span.type": "interaction", "session.id": "s-1", "user_prompt": "Hi", "interaction.sequence": 1}
    (call,) = spans(
        "com.anthropic.claude_code.tracing",
        "claude-code",
        [
            {"trace": "1", "span": "2", "parent": "1", "name": "claude_code.llm_request", "at": 1, "end": 5}
            | {"attributes": attributes},
            {"trace": "1", "span": "1", "name": "claude_code.interaction", "at": 0, "end": 9, "attributes": root},
        ],
    )
    assert call.usage is not None
    assert (call.usage.input, call.usage.cache_read, call.usage.cache_write) == (527, 500, 20)


def test_codex_turn_repeats_its_responses() -> None:
    turn = {"model": "gpt-5", "turn.id": "t-1", "thread.id": "c-1", "codex.turn.token_usage.input_tokens": 30}
    turn |= {"codex.turn.token_usage.output_tokens": 8, "codex.turn.token_usage.total_tokens": 38}
    counts = {
        "gen_ai.usage.input_tokens": 15,
        "gen_ai.usage.output_tokens": 4,
        "gen_ai.usage.cache_read.input_tokens": 5,
    }
    entries: list[dict[str, Any]] = [
        {"trace": "3", "span": "1", "name": "turn/start", "at": 0, "end": 50, "attributes": {}},
        {"trace": "3", "span": "2", "parent": "1", "name": "session_task.turn", "at": 1, "end": 49, "attributes": turn},
    ]
    for number, at in (("a", 5), ("b", 25)):
        entries.append(
            {"trace": "3", "span": number, "parent": "2", "name": "codex.sampling", "at": at, "end": at + 10}
            | {"attributes": {"model": "gpt-5"}}
        )
        entries.append(
            {"trace": "3", "span": f"{number}1", "parent": number, "name": "handle_responses", "at": at, "end": at + 9}
            | {"attributes": counts}
        )
    calls = spans("codex_exec", "codex_exec", entries)
    used = [call.usage for call in calls if call.usage is not None and call.usage.scope == "own"]
    assert sum(usage.input or 0 for usage in used) == 30
    assert sum(usage.output or 0 for usage in used) == 8


def test_gemini_cli_output_object_and_truncated_input() -> None:
    asked = json.dumps([{"role": "user", "parts": [{"text": "Read the file."}, {"text": "x" * 400}]}])
    attributes = {
        "gen_ai.operation.name": "llm_call",
        "gen_ai.agent.name": "gemini-cli",
        "gen_ai.conversation.id": "s-1",
        "gen_ai.request.model": "gemini-2.5-pro",
        "gen_ai.input.messages": asked[:120] + "...[TRUNCATED: original length 470]",
        "gen_ai.output.messages": json.dumps({"role": "model", "parts": [{"text": "Done."}]}),
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.output_tokens": 2,
    }
    (call,) = spans(
        "gemini-cli",
        "gemini-cli",
        [{"trace": "5", "span": "1", "name": "llm_call", "at": 0, "end": 5, "attributes": attributes}],
    )
    texts = [(m.role, p.content) for m in (*call.input, *call.output) for p in m.parts if isinstance(p, Text)]
    assert ("user", "Read the file.") in texts
    assert ("assistant", "Done.") in texts
    assert ("user", "...[TRUNCATED: original length 470]") in texts
