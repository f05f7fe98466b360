"""A stored trace as a tree in the terminal: what was asked, found, called and answered, tokens and cost.

Reads MLflow span documents (`Span.to_dict()`), so that it shows what a store holds and not what was meant to be there.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

Document = Mapping[str, Any]
"""One decoded span document."""

_COLOURS = {
    "LLM": "cyan", "CHAT_MODEL": "cyan", "AGENT": "magenta", "TOOL": "yellow", "RETRIEVER": "green",
    "EMBEDDING": "blue", "RERANKER": "green", "CHAIN": "white", "WORKFLOW": "magenta",
}  # fmt: skip


def trace_tree(title: str, spans: Iterable[Document], *, width: int = 100) -> Tree:
    """The spans as a tree below `title`, those without their parent at the top. Texts are cut at `width`."""
    ordered = sorted(spans, key=lambda span: span.get("start_time_unix_nano") or 0)
    ids = {span["span_id"] for span in ordered}
    children: dict[str | None, list[Document]] = {}
    for span in ordered:
        parent = span.get("parent_span_id") or None
        children.setdefault(parent if parent in ids and parent != span["span_id"] else None, []).append(span)
    tree = Tree(Text(title, style="bold"))
    todo = [(span, tree) for span in reversed(children.get(None, []))]
    while todo:
        span, above = todo.pop()
        branch = above.add(_span(span, width))
        todo.extend((child, branch) for child in reversed(children.get(span["span_id"], [])))
    return tree


def attribute(span: Document, key: str) -> Any:
    """The decoded value of an attribute, None if it is absent."""
    text = (span.get("attributes") or {}).get(key)
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _span(span: Document, width: int) -> RenderableType:
    kind = str(attribute(span, "mlflow.spanType") or "SPAN")
    line = Text.assemble((f"{kind:<10} ", _COLOURS.get(kind, "dim")), (str(span.get("name") or "?"), "bold"))
    for part in _figures(span):
        line.append(f"  {part}", "dim")
    status = span.get("status") or {}
    if "ERROR" in str(status.get("code")):
        line.append(f"  ERROR {_one_line(str(status.get('message') or ''), width)}", "bold red")
    inputs, outputs = attribute(span, "mlflow.spanInputs"), attribute(span, "mlflow.spanOutputs")
    details = [*content_lines(inputs, "in", width), *content_lines(outputs, "out", width)]
    return Group(line, *details) if details else line


def _figures(span: Document) -> Iterable[str]:
    start, end = span.get("start_time_unix_nano") or 0, span.get("end_time_unix_nano") or 0
    yield f"{(end - start) / 1e6:,.0f} ms" if end else "still running"
    model = attribute(span, "mlflow.llm.model")
    if model:
        yield str(model)
    usage = attribute(span, "mlflow.chat.tokenUsage")
    if isinstance(usage, dict):
        yield tokens(usage)
    cost = attribute(span, "mlflow.llm.cost")
    if isinstance(cost, dict) and cost.get("total_cost") is not None:
        yield dollars(float(cost["total_cost"]))


def tokens(usage: Mapping[str, Any]) -> str:
    """`1,204 + 187 tokens` with the part that came from a cache."""
    text = f"{usage.get('input_tokens') or 0:,} + {usage.get('output_tokens') or 0:,} tokens"
    cached = usage.get("cache_read_input_tokens")
    return f"{text} ({cached:,} from cache)" if cached else text


def dollars(amount: float) -> str:
    return f"${amount:,.2f}" if amount >= 1 else f"${amount:.6f}".rstrip("0").rstrip(".")


def content_lines(value: Any, label: str, width: int) -> list[Text]:
    """An input or output, readable: messages by role, documents by number, anything else as one line of JSON."""
    if value is None:
        return []
    messages = _messages(value)
    if messages:
        return [line for message in messages for line in _message(message, width)]
    documents = _documents(value)
    if documents:
        return [_document(i, document, width) for i, document in enumerate(documents, 1)]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return [_labelled(label, text, width)]


def _messages(value: Any) -> Sequence[Mapping[str, Any]]:
    if isinstance(value, dict):
        choices = value.get("choices")
        if isinstance(choices, list):
            return [c["message"] for c in choices if isinstance(c, dict) and isinstance(c.get("message"), dict)]
        for key in ("messages", "message"):
            if key in value:
                return _messages(value[key])
        return [value] if "role" in value and ("content" in value or "parts" in value or "tool_calls" in value) else []
    if isinstance(value, list) and value and all(isinstance(item, dict) and "role" in item for item in value):
        return value
    return []


def _documents(value: Any) -> Sequence[Mapping[str, Any]]:
    if isinstance(value, dict) and isinstance(value.get("documents"), list):
        value = value["documents"]
    if isinstance(value, list) and value and all(isinstance(item, dict) and "page_content" in item for item in value):
        return value
    return []


def _message(message: Mapping[str, Any], width: int) -> Iterable[Text]:
    role = str(message.get("role"))
    text = _text_of(message.get("content", message.get("parts")))
    if text:
        yield _labelled(role, text, width)
    for call in message.get("tool_calls") or ():
        function = call.get("function", call) if isinstance(call, dict) else {}
        arguments = function.get("arguments")
        shown = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        yield _labelled(role, f"calls {function.get('name')}({shown or ''})", width)


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (_text_of(part) for part in content)
        return " ".join(part for part in parts if part)
    if isinstance(content, dict):
        for key in ("text", "content"):
            if key in content:
                return _text_of(content[key])
        return f"[{content.get('type', 'content')}]"
    return ""


def _document(number: int, document: Mapping[str, Any], width: int) -> Text:
    metadata = document.get("metadata") or {}
    score = metadata.get("score", document.get("score"))
    about = f" ({score:.2f})" if isinstance(score, int | float) else ""
    others = {key: value for key, value in document.items() if value and key != "page_content"}
    text = document.get("page_content") or json.dumps(others, ensure_ascii=False)
    return _labelled(f"doc {number}{about}", str(text), width)


def _labelled(label: str, text: str, width: int) -> Text:
    return Text.assemble((f"{label}: ", "dim"), _one_line(text, width))


def _one_line(text: str, width: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"
