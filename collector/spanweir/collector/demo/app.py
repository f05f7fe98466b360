"""A sample RAG application with tools, instrumented by `spanweir.instrumentation`: what `spanweir demo` runs.

`run()` makes five traces: a retrieval-augmented answer, an agent with two tool calls, a session of two turns, and one
that fails. As a program (`python -m spanweir.collector.demo.app`) it sends them to where `OTEL_EXPORTER_OTLP_ENDPOINT`
points and prints their trace ids, one a line.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from spanweir import instrumentation as spanweir
from spanweir.collector.demo import model

SYSTEM = "Answer from the documents and cite them by number."
DOCUMENTS = [
    ("weir-1", "spanweir receives OTLP over gRPC and HTTP and turns GenAI spans into whole MLflow traces.", "intro.md"),
    ("weir-2", "A request is appended to a durable queue and synced before the sender is answered.", "queue.md"),
    (
        "weir-3",
        "Traces are written to an MLflow experiment store and to an inference table on Delta Lake.",
        "stores.md",
    ),
    ("weir-4", "Prices come from a maintained price table; a cost that the sender reports wins.", "cost.md"),
    ("trip-1", "Trips to Paris are booked by train, and it is a short walk from the station.", "travel.md"),
    ("trip-2", "Up to 150 EUR a day are paid there for meals and a room, in the currency of the country.", "travel.md"),
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    },
    {
        "type": "function",
        "function": {
            "name": "convert_currency",
            "description": "An amount of money in another currency",
            "parameters": {
                "type": "object",
                "properties": {"amount": {"type": "number"}, "from": {"type": "string"}, "to": {"type": "string"}},
            },
        },
    },
]


@spanweir.embeddings("text-embedding-3-small", provider="openai", dimensions=3)
def embed(text: str) -> list[float]:
    words = text.lower().split()
    return [len(words) / 10, sum(map(len, words)) / 100, text.count("?") / 1.0]


@spanweir.retrieval("handbook")
def search(query: str, top_k: int = 3) -> list[dict[str, Any]]:
    embed(query)
    wanted = set(query.lower().replace("?", "").split())
    scored = [(len(wanted & set(text.lower().split())) / len(wanted), n) for n, (_, text, _) in enumerate(DOCUMENTS)]
    best = sorted(scored, key=lambda pair: (-pair[0], pair[1]))[:top_k]
    return [
        {
            "id": DOCUMENTS[n][0],
            "content": DOCUMENTS[n][1],
            "score": round(score, 3),
            "metadata": {"uri": DOCUMENTS[n][2]},
        }
        for score, n in best
    ]


@spanweir.chat(model.NAME, provider="openai", temperature=0.0)
def complete(messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return model.complete(messages, tools)


@spanweir.workflow("answer_question")
def answer(question: str) -> str:
    documents = search(question)
    context = "\n".join(f"[{n}] {document['content']}" for n, document in enumerate(documents, 1))
    messages = [
        {"role": "system", "content": f"{SYSTEM}\n{context}"},
        {"role": "user", "content": question},
    ]
    return str(complete(messages)["choices"][0]["message"]["content"])


@spanweir.tool(description="The weather in a city")
def get_weather(city: str) -> str:
    return json.dumps({"city": city, "temperature_c": 21, "sky": "clear"})


@spanweir.tool(description="An amount of money in another currency")
def convert_currency(**amount: Any) -> str:
    return json.dumps({"amount": round(amount["amount"] * 0.92, 2), "currency": amount["to"]})


@spanweir.agent("travel_agent", description="Plans short trips", model=model.NAME, provider="openai")
def plan_trip(request: str) -> str:
    tools: dict[str, Callable[..., str]] = {"get_weather": get_weather, "convert_currency": convert_currency}
    context = "\n".join(f"[{n}] {document['content']}" for n, document in enumerate(search(request, 2), 1))
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": f"Plan within the travel rules.\n{context}"},
        {"role": "user", "content": request},
    ]
    while True:
        message = complete(messages, TOOLS)["choices"][0]["message"]
        messages.append(message)
        if not message.get("tool_calls"):
            return str(message["content"])
        for call in message["tool_calls"]:
            function = call["function"]
            result = tools[function["name"]](**json.loads(function["arguments"]))
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})


def converse() -> list[str]:
    """Two turns of one session, the second with a streamed answer."""
    ids = []
    history: list[dict[str, Any]] = []
    for question in ("Where do my traces go, and in which store?", "Can a durable queue be lost?"):
        with spanweir.workflow("chat_turn", input=question, session="session-42", user="ada") as turn:
            history.append({"role": "user", "content": question})
            with spanweir.chat(model.NAME, provider="openai", system=SYSTEM, input=history) as call:
                words = []
                for word in model.stream(history):
                    call.first_chunk()
                    words.append(word)
                text = "".join(words)
                call.set_output(text)
                call.set_usage(input_tokens=40 * len(history), output_tokens=len(words))
                call.set_response(model=f"{model.NAME}-2024-07-18", finish_reasons=["stop"])
            history.append({"role": "assistant", "content": text})
            turn.set_output(text)
            ids.append(turn.trace_id)
    return ids


def run() -> list[str]:
    """All five traces. Returns their trace ids (32 hex digits)."""
    ids = []
    with spanweir.workflow("support_request", input="What does spanweir do with my spans?") as root:
        spanweir.update_current_trace(user="grace", tags={"demo": "rag"}, metadata={"release": "demo-1"})
        root.set_output(answer("What does spanweir do with my spans?"))
        ids.append(root.trace_id)
    with spanweir.workflow("trip_request", input="Is it sunny in Paris, and what are 120 USD there?") as root:
        spanweir.update_current_trace(user="grace", tags={"demo": "agent"})
        root.set_output(plan_trip("Is it sunny in Paris, and what are 120 USD there?"))
        ids.append(root.trace_id)
    ids += converse()
    try:
        with spanweir.workflow("failing_request", input="Is the service overloaded?") as root:
            ids.append(root.trace_id)
            answer("Is the service overloaded?")
    except model.OverloadedError:
        pass
    return ids


def main() -> int:
    spanweir.init(service_name=os.environ.get("OTEL_SERVICE_NAME", "spanweir-demo"))
    ids = run()
    if not spanweir.flush(20):
        print("the collector did not take the demo's spans", file=sys.stderr)
        return 1
    print("\n".join(ids))
    return 0


if __name__ == "__main__":
    sys.exit(main())
