"""What a person sees of inputs and outputs in a list of traces."""

import json
from typing import Any

import pytest

from spanweir.schemas.preview import preview_of

ASK, ANSWER = "What is the weather?", "Snow."


@pytest.mark.parametrize(
    "given",
    [
        ASK,
        {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": ASK}]},
        {"messages": [{"role": "user", "content": ASK}, {"role": "assistant", "content": ANSWER}]},
        {"messages": [["user", ASK]]},
        {"messages": [[{"lc": 1, "id": ["HumanMessage"], "kwargs": {"content": ASK}}]]},
        {"messages": [{"type": "human", "data": {"content": ASK}}]},
        {"input": {"messages": [{"type": "human", "content": ASK}]}},
        {"user_id": "u", "new_message": {"role": "user", "parts": [{"text": ASK}]}, "state": None},
        {"args": [ASK], "kwargs": {}},
        {"args": [], "kwargs": {"question": ASK, "top_k": 3}},
        {"query": ASK, "k": 4},
        {"anything": ASK},
        [ASK],
        [{"role": "user", "content": [{"type": "text", "text": ASK}, {"type": "image", "source": {"data": "AA=="}}]}],
    ],
)
def test_what_was_asked(given: Any) -> None:
    assert preview_of(json.dumps(given), "user") == ASK


@pytest.mark.parametrize(
    "given",
    [
        ANSWER,
        {"choices": [{"index": 0, "message": {"role": "assistant", "content": ANSWER}}]},
        {"output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": ANSWER}]}]},
        {"role": "assistant", "content": [{"type": "text", "text": ANSWER}]},
        {"content": {"role": "model", "parts": [{"text": ANSWER}]}},
        {"messages": [{"role": "user", "content": ASK}, {"type": "ai", "content": ANSWER}]},
        {"generations": [[{"text": ANSWER, "message": {"lc": 1, "id": ["AIMessage"], "kwargs": {"content": ANSWER}}}]]},
        {"answer": ANSWER, "sources": [1, 2]},
        {"output": ANSWER},
        [{"type": "text", "text": ANSWER}],
    ],
)
def test_what_was_answered(given: Any) -> None:
    assert preview_of(json.dumps(given), "assistant") == ANSWER


@pytest.mark.parametrize("given", ['{"city":"Oslo","temp_c":4}', "[1,2]", "7", "not JSON", "true"])
def test_what_cannot_be_told_better_stays(given: str) -> None:
    assert preview_of(given, "assistant") == given


@pytest.mark.parametrize("given", [None, "null", '""', "[]", "{}"])
def test_nothing(given: str | None) -> None:
    assert preview_of(given, "user") is None


def test_depth_is_bounded() -> None:
    deep: Any = ASK
    for _ in range(500):
        deep = {"input": deep}
    assert preview_of(json.dumps(deep), "user") == json.dumps(deep)


def test_an_answer_without_content_has_no_preview() -> None:
    """Content capture is off, the finish reason is all that is known."""
    choice = {"index": 0, "message": {"role": "assistant", "content": None}, "finish_reason": "stop"}
    assert preview_of(json.dumps({"choices": [choice]}), "assistant") is None
    assert preview_of(json.dumps({"choices": [{**choice, "native_finish_reason": "end_turn"}]}), "assistant") is None
    empty = {"index": 0, "message": {"role": "assistant", "content": ""}}
    assert preview_of(json.dumps({"id": "1", "model": "gpt-4o", "choices": [empty]}), "assistant") is None
