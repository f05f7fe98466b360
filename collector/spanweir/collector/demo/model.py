"""A deterministic model: the same messages give the same answer, the same tokens, and take no time to speak of.

It answers in the shape of the OpenAI Chat Completions API, so that the sample application reads like a real one.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

NAME = "gpt-4o-mini"
Message = dict[str, Any]


class OverloadedError(Exception):
    """What the real service answers with status 529."""


def complete(messages: list[Message], tools: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """One chat completion.

    Raises:
        OverloadedError: the last message asks for it.
    """
    last = messages[-1]
    text = str(last.get("content") or "")
    if "overloaded" in text:
        raise OverloadedError("the model is overloaded, try again later")
    if tools and last["role"] == "user":
        message = _tool_calls(text)
    elif last["role"] == "tool":
        message = {"role": "assistant", "content": _summary(messages)}
    else:
        message = {"role": "assistant", "content": _answer(messages)}
    prompt, completion = _tokens(messages), _tokens([message])
    return {
        "id": f"chatcmpl-demo-{prompt:04d}{completion:04d}",
        "model": f"{NAME}-2024-07-18",
        "choices": [
            {"index": 0, "message": message, "finish_reason": "tool_calls" if "tool_calls" in message else "stop"}
        ],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": prompt // 2 if prompt > 60 else 0},
        },
    }


def stream(messages: list[Message]) -> Iterator[str]:
    """The same answer word by word."""
    yield from re.findall(r"\S+\s*", _answer(messages))


def _tool_calls(question: str) -> Message:
    city = "Paris" if "Paris" in question else "Berlin"
    calls = [("get_weather", {"city": city}), ("convert_currency", {"amount": 120, "from": "USD", "to": "EUR"})]
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for n, (name, arguments) in enumerate(calls, 1)
        ],
    }


def _summary(messages: list[Message]) -> str:
    results = [message["content"] for message in messages if message["role"] == "tool"]
    return "Here is what I found: " + "; ".join(results) + "."


def _answer(messages: list[Message]) -> str:
    question = str(messages[-1]["content"]).lower()
    if "durable" in question or "lost" in question:
        return (
            "Nothing that was acknowledged is lost: a request is written and synced to disk before it is answered [2]."
        )
    if "and" in question and "store" in question:
        return "They go to an MLflow experiment store and to an inference table on Delta Lake [1][3]."
    return "It receives OTLP, keeps every request in a durable queue, and writes whole MLflow traces [1][2]."


def _tokens(messages: list[Message]) -> int:
    return sum(len(re.findall(r"\w+|[^\w\s]", json.dumps(message))) for message in messages)
