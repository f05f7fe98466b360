"""A local model server that speaks the OpenAI, Anthropic and Gemini protocols, deterministic and without a model.

`with serve() as server:` in tests, `python -m tests.support.fake_models [PORT]` by hand. Requests with tools get a
call of the first tool, with arguments made up from its schema, until a tool's result is among the messages; all others
get a sentence. Every request is kept in `Server.requests`.
"""

import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]
ANSWER = "The weir holds and meters what flows."
USAGE = {"input": 21, "output": 9, "cached": 4, "reasoning": 2}


def example(schema: Json | None) -> Any:
    """A value that a JSON schema allows."""
    schema = schema or {}
    if "default" in schema:
        return schema["default"]
    if schema.get("enum"):
        return schema["enum"][0]
    kind = str(schema.get("type", "object")).lower()
    if kind == "object":
        return {name: example(inner) for name, inner in (schema.get("properties") or {}).items()}
    return {"string": "Paris", "integer": 3, "number": 1.5, "boolean": True, "array": []}.get(kind)


def has_tool_result(messages: list[Json]) -> bool:
    return '"tool' in json.dumps([m for m in messages if m.get("role") in ("tool", "user")]) and any(
        m.get("role") == "tool"
        or any(isinstance(p, dict) and p.get("type") == "tool_result" for p in _parts(m.get("content")))
        for m in messages
    )


def _parts(content: Any) -> list[Any]:
    return content if isinstance(content, list) else []


def answer_to(messages: list[Json], body: Json) -> str:
    """A sentence, or the fields that DSPy asks for, or the format that ReAct agents ask for."""
    text = json.dumps(messages)
    fields = re.findall(r"\[\[ ## (\w+) ## \]\]", text.rsplit("Respond with", 1)[-1]) if "[[ ##" in text else []
    if fields:
        wanted = list(dict.fromkeys(name for name in fields if name != "completed"))
        return "".join(f"[[ ## {name} ## ]]\n{ANSWER}\n\n" for name in wanted) + "[[ ## completed ## ]]"
    if "Final Answer:" in text:
        return f"Thought: I now can give a great answer\nFinal Answer: {ANSWER}"
    return ANSWER


# OpenAI


def chat_completion(body: Json) -> Json:
    message: Json = {"role": "assistant", "content": answer_to(body["messages"], body), "refusal": None}
    reason = "stop"
    if body.get("tools") and not has_tool_result(body["messages"]):
        function = body["tools"][0]["function"]
        arguments = json.dumps(example(function.get("parameters")))
        call = {"id": "call_1", "type": "function", "function": {"name": function["name"], "arguments": arguments}}
        message, reason = {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}, "tool_calls"
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": f"{body['model']}-2026",
        "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": None}],
        "usage": chat_usage(),
    }


def chat_usage() -> Json:
    return {
        "prompt_tokens": USAGE["input"],
        "completion_tokens": USAGE["output"],
        "total_tokens": USAGE["input"] + USAGE["output"],
        "prompt_tokens_details": {"cached_tokens": USAGE["cached"]},
        "completion_tokens_details": {"reasoning_tokens": USAGE["reasoning"]},
    }


def chat_chunks(body: Json) -> Iterator[Json]:
    whole = chat_completion(body)
    message = whole["choices"][0]["message"]
    head = {key: whole[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}

    def chunk(delta: Json, reason: str | None = None) -> Json:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], "usage": None}

    yield chunk({"role": "assistant", "content": ""})
    for word in re.findall(r"\S+\s*", message["content"] or ""):
        yield chunk({"content": word})
    for index, call in enumerate(message.get("tool_calls") or ()):
        yield chunk({"tool_calls": [{"index": index, **call}]})
    yield chunk({}, whole["choices"][0]["finish_reason"])
    if (body.get("stream_options") or {}).get("include_usage"):
        yield {**head, "choices": [], "usage": chat_usage()}


def response(body: Json) -> Json:
    given = body.get("input")
    items = given if isinstance(given, list) else []
    output: list[Json]
    if body.get("tools") and not any(item.get("type") == "function_call_output" for item in items):
        tool = next(tool for tool in body["tools"] if tool.get("type") == "function")
        arguments = json.dumps(example(tool.get("parameters")))
        output = [
            {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": tool["name"], "arguments": arguments}
        ]
        output[0]["status"] = "completed"
    else:
        content = [{"type": "output_text", "text": ANSWER, "annotations": [], "logprobs": []}]
        output = [{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}]
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": f"{body['model']}-2026",
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": body.get("tools") or [],
        "instructions": body.get("instructions"),
        "metadata": {},
        "error": None,
        "incomplete_details": None,
        "temperature": 1.0,
        "top_p": 1.0,
        "usage": {
            "input_tokens": USAGE["input"],
            "output_tokens": USAGE["output"],
            "total_tokens": USAGE["input"] + USAGE["output"],
            "input_tokens_details": {"cached_tokens": USAGE["cached"], "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": USAGE["reasoning"]},
        },
    }


def response_events(body: Json) -> Iterator[Json]:
    whole = response(body)
    number = iter(range(1000))
    started = {**whole, "status": "in_progress", "output": [], "usage": None}
    yield {"type": "response.created", "sequence_number": next(number), "response": started}
    for index, item in enumerate(whole["output"]):
        place = {"output_index": index, "item_id": item["id"]}
        yield {
            "type": "response.output_item.added",
            "sequence_number": next(number),
            "output_index": index,
            "item": {**item, "status": "in_progress", **({"content": []} if item["type"] == "message" else {})},
        }
        if item["type"] == "message":
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            place["content_index"] = 0
            yield {"type": "response.content_part.added", "sequence_number": next(number), **place, "part": part}
            for word in re.findall(r"\S+\s*", ANSWER):
                delta = {"type": "response.output_text.delta", "delta": word, "logprobs": []}
                yield {**delta, "sequence_number": next(number), **place}
            done = {"type": "response.output_text.done", "text": ANSWER, "logprobs": []}
            yield {**done, "sequence_number": next(number), **place}
            part = item["content"][0]
            yield {"type": "response.content_part.done", "sequence_number": next(number), **place, "part": part}
        yield {
            "type": "response.output_item.done",
            "sequence_number": next(number),
            "output_index": index,
            "item": item,
        }
    yield {"type": "response.completed", "sequence_number": next(number), "response": whole}


def embeddings(body: Json) -> Json:
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    if texts and isinstance(texts[0], int):
        texts = [texts]
    vectors = [[float(len(str(text)) % 7), 1.0, 0.5] for text in texts]
    encoded: list[Any] = list(vectors)
    if body.get("encoding_format") == "base64":
        import base64
        import struct

        encoded = [base64.b64encode(struct.pack(f"<{len(v)}f", *v)).decode() for v in vectors]
    return {
        "object": "list",
        "model": body["model"],
        "data": [{"object": "embedding", "index": n, "embedding": vector} for n, vector in enumerate(encoded)],
        "usage": {"prompt_tokens": 5 * len(texts), "total_tokens": 5 * len(texts)},
    }


# Anthropic


def anthropic_message(body: Json) -> Json:
    content: list[Json] = [{"type": "text", "text": answer_to(body["messages"], body)}]
    reason = "end_turn"
    if body.get("tools") and not has_tool_result(body["messages"]):
        tool = body["tools"][0]
        call = {"type": "tool_use", "id": "toolu_1", "name": tool["name"], "input": example(tool.get("input_schema"))}
        content, reason = [call], "tool_use"
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": f"{body['model']}-2026",
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": {
            "input_tokens": USAGE["input"] - USAGE["cached"],
            "output_tokens": USAGE["output"],
            "cache_read_input_tokens": USAGE["cached"],
            "cache_creation_input_tokens": 0,
        },
    }


def anthropic_events(body: Json) -> Iterator[Json]:
    whole = anthropic_message(body)
    yield {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}}
    for index, block in enumerate(whole["content"]):
        empty = {**block, "text": ""} if block["type"] == "text" else {**block, "input": {}}
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        if block["type"] == "text":
            for word in re.findall(r"\S+\s*", block["text"]):
                yield {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": word}}
        else:
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": USAGE["output"]}}
    yield {"type": "message_stop"}


# Gemini


def gemini(body: Json, model: str, text: str = ANSWER) -> Json:
    parts: list[Json] = [{"text": text}]
    declared = [f for tool in body.get("tools") or () for f in tool.get("functionDeclarations") or ()]
    if declared and "functionResponse" not in json.dumps(body["contents"]):
        schema = declared[0].get("parameters") or declared[0].get("parametersJsonSchema")
        parts = [{"functionCall": {"name": declared[0]["name"], "args": example(schema)}}]
    return {
        "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}],
        "modelVersion": f"{model}-2026",
        "responseId": "gemini-1",
        "usageMetadata": {
            "promptTokenCount": USAGE["input"],
            "candidatesTokenCount": USAGE["output"],
            "totalTokenCount": USAGE["input"] + USAGE["output"],
            "cachedContentTokenCount": USAGE["cached"],
        },
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        path = self.path.partition("?")[0]
        self.server.requests.append((path, body))
        if "overloaded" in json.dumps(body):
            self.reply({"error": {"message": "overloaded", "type": "server_error"}}, 503)
        elif path.endswith("/chat/completions"):
            self.either(body, chat_completion, chat_chunks, named=False)
        elif path.endswith("/responses"):
            self.either(body, response, response_events, named=True)
        elif path.endswith("/embeddings"):
            self.reply(embeddings(body))
        elif path.endswith("/messages"):
            self.either(body, anthropic_message, anthropic_events, named=True)
        elif match := re.search(r"/models/([^/:]+):(generateContent|streamGenerateContent)$", path):
            if match[2] == "generateContent":
                self.reply(gemini(body, match[1]))
            else:
                words = re.findall(r"\S+\s*", ANSWER)
                self.events((gemini(body, match[1], word) for word in words), named=False, done=False)
        else:
            self.reply({"error": {"message": f"no such path: {path}"}}, 404)

    def do_GET(self) -> None:
        self.reply({"object": "list", "data": []})

    def either(self, body: Json, whole: Any, events: Any, *, named: bool) -> None:
        if body.get("stream"):
            self.events(events(body), named=named, done=not named)
        else:
            self.reply(whole(body))

    def reply(self, value: Json, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def events(self, items: Iterator[Json], *, named: bool, done: bool) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for item in items:
            name = f"event: {item['type']}\n" if named else ""
            self.wfile.write(f"{name}data: {json.dumps(item)}\n\n".encode())
            self.wfile.flush()
        if done:
            self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.requests: list[tuple[str, Json]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serve() -> Iterator[Server]:
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    running = Server(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    print(running.address, flush=True)
    running.serve_forever()
