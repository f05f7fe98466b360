"""A trace as one piece of HTML that needs nothing else: no script, no network, no server.

Native `<details>` make the tree, so it works by keyboard, with a screen reader, in a sandboxed output cell, in an
exported page and on paper. Colours are never the only sign, and follow the light or dark scheme of the page.
"""

import json
from html import escape
from typing import Any

from spanweir.instrumentation.view import Node, TraceView

MAX_TEXT = 20_000
"""Characters of one text that are shown."""
MAX_TOTAL = 2_000_000
"""Characters of the whole view; what comes after is left out, and the view says so."""

STYLE = """
.spanweir{--line:#8884;--soft:#8881;--bar:#2563a8;--bad:#b3261e;font:13px/1.45 system-ui,sans-serif;
border:1px solid var(--line);border-radius:6px;padding:8px 10px;margin:4px 0;max-width:100%;overflow-x:auto}
.spanweir h3{font-size:14px;margin:0 0 4px}.spanweir h4{font-size:12px;margin:8px 0 2px}
.spanweir ul{list-style:none;margin:0;padding-left:18px;border-left:1px solid var(--line)}
.spanweir ul.spanweir-tree{padding-left:0;border:0}.spanweir li{margin:1px 0}
.spanweir summary{display:flex;gap:8px;align-items:center;cursor:pointer;padding:2px 4px;border-radius:4px}
.spanweir summary:hover{background:var(--soft)}
.spanweir summary:focus-visible{outline:2px solid var(--bar)}
.spanweir summary::before{content:"\\25B8"}.spanweir details[open]>summary::before{content:"\\25BE"}
.spanweir-kind{font-size:11px;border:1px solid var(--line);border-radius:3px;padding:0 4px;white-space:nowrap}
.spanweir-name{font-weight:600;white-space:nowrap}.spanweir-facts{white-space:nowrap;opacity:.8}
.spanweir-line{position:relative;flex:1;min-width:120px;height:10px;background:var(--soft);border-radius:2px}
.spanweir-line i{position:absolute;top:0;bottom:0;min-width:2px;background:var(--bar);border-radius:2px}
.spanweir-error{color:var(--bad);font-weight:600}.spanweir-error i{background:var(--bad)}
.spanweir-body{padding:2px 4px 6px 22px}
.spanweir pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:2px 0;padding:4px 6px;background:var(--soft);
border-radius:4px;max-height:320px;overflow:auto;font:12px/1.4 ui-monospace,monospace;color:inherit}
.spanweir table{border-collapse:collapse;font-size:12px}
.spanweir th,.spanweir td{text-align:left;vertical-align:top;padding:1px 10px 1px 0;
overflow-wrap:anywhere;background:none}
@media (prefers-color-scheme:dark){.spanweir{--bar:#7ab0ee;--bad:#ff8a80}}
"""


class Writer:
    """Collects the pieces and keeps them within `MAX_TOTAL`."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._left = MAX_TOTAL

    def add(self, markup: str) -> None:
        self._parts.append(markup)

    def text(self, value: Any) -> str:
        """Escaped and shortened text of any value."""
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2, default=str)
        keep = min(MAX_TEXT, max(self._left, 0))
        self._left -= min(len(text), keep)
        more = len(text) - keep
        return escape(text if more <= 0 else f"{text[:keep]}… {more} more characters")

    def done(self) -> str:
        return "".join(self._parts)


def render(view: TraceView) -> str:
    """The whole view of one trace."""
    out = Writer()
    name = view.roots[0].name if view.roots else "empty trace"
    failed = next((node for node in view.roots if node.error), None)
    out.add(f'<style>{STYLE}</style><section class="spanweir" aria-label="Trace {escape(name, quote=True)}">')
    out.add(f"<h3>{escape(name)}</h3><div>{' · '.join(_facts_of_trace(view))}</div>")
    if failed is not None:
        out.add(f'<div class="spanweir-error" role="note">Failed: {out.text(failed.error)}</div>')
    out.add('<ul class="spanweir-tree">')
    for root in view.roots:
        _item(out, root, view, open_=True)
    out.add("</ul></section>")
    return out.done()


def _facts_of_trace(view: TraceView) -> list[str]:
    facts = [f"trace {escape(view.trace_id)}", f"{len(view.nodes)} spans", duration(view.end_ns - view.start_ns)]
    tokens = [view.total(field) for field in ("input_tokens", "output_tokens")]
    if any(value is not None for value in tokens):
        facts.append(f"{int(tokens[0] or 0)} tokens in, {int(tokens[1] or 0)} out")
    cost = view.total("cost")
    if cost is not None:
        facts.append(money(cost))
    for label, value in (("session", view.session), ("user", view.user)):
        if value:
            facts.append(f"{label} {escape(value)}")
    return facts


def _item(out: Writer, node: Node, view: TraceView, *, open_: bool) -> None:
    total = max(view.end_ns - view.start_ns, 1)
    left = 100 * (node.start_ns - view.start_ns) / total
    width = min(100 * node.duration_ns / total, 100 - left)
    facts = [duration(node.duration_ns) if node.end_ns is not None else "not ended"]
    if node.model:
        facts.append(escape(str(node.model)))
    if node.input_tokens is not None or node.output_tokens is not None:
        facts.append(f"{node.input_tokens or 0} → {node.output_tokens or 0} tokens")
    if node.cost is not None:
        facts.append(money(node.cost))
    if node.documents:
        facts.append(f"{len(node.documents)} documents")
    bad = " spanweir-error" if node.error else ""
    started = duration(node.start_ns - view.start_ns)
    out.add(f"<li><details{' open' if open_ else ''}><summary>")
    out.add(f'<span class="spanweir-kind">{escape(node.kind)}</span>')
    out.add(f'<span class="spanweir-name{bad}">{escape(node.name)}{" — error" if node.error else ""}</span>')
    out.add(f'<span class="spanweir-facts">{" · ".join(facts)}</span>')
    out.add(f'<span class="spanweir-line{bad}" role="img" aria-label="starts at {started}, takes {facts[0]}">')
    out.add(f'<i style="left:{left:.2f}%;width:{max(width, 0):.2f}%"></i></span></summary>')
    out.add('<div class="spanweir-body">')
    _body(out, node)
    out.add("</div></details>")
    if node.children:
        out.add("<ul>")
        for child in node.children:
            _item(out, child, view, open_=child.error is not None)
        out.add("</ul>")
    out.add("</li>")


def _body(out: Writer, node: Node) -> None:
    if node.error:
        out.add(f'<h4 class="spanweir-error">Error</h4><pre>{out.text(node.error)}</pre>')
    if node.stack:
        out.add(f"<details><summary>Stack trace</summary><pre>{out.text(node.stack)}</pre></details>")
    if node.system:
        out.add(f"<h4>System instructions</h4>{_parts(out, node.system)}")
    for title, messages in (("Input", node.inputs), ("Output", node.outputs)):
        if messages:
            out.add(f"<h4>{title}</h4>")
        for message in messages:
            role = message.get("role", "") if isinstance(message, dict) else ""
            parts = message.get("parts", message) if isinstance(message, dict) else message
            out.add(f'<div><span class="spanweir-kind">{escape(str(role))}</span> {_parts(out, parts)}</div>')
    for label, value in node.values.items():
        out.add(f"<h4>{escape(label.capitalize())}</h4><pre>{out.text(value)}</pre>")
    if node.documents:
        _documents(out, node.documents)
    if node.attributes:
        out.add("<details><summary>Attributes</summary><table><tbody>")
        for key in sorted(node.attributes):
            out.add(f'<tr><th scope="row">{escape(key)}</th><td>{out.text(node.attributes[key])}</td></tr>')
        out.add("</tbody></table></details>")


def _documents(out: Writer, documents: list[Any]) -> None:
    out.add('<h4>Documents</h4><table><thead><tr><th scope="col">id</th><th scope="col">score</th>')
    out.add('<th scope="col">content</th><th scope="col">metadata</th></tr></thead><tbody>')
    for document in documents:
        found = document if isinstance(document, dict) else {"content": document}
        rest = {k: v for k, v in found.items() if k not in ("id", "score", "content", "metadata")}
        metadata = {**rest, **found["metadata"]} if isinstance(found.get("metadata"), dict) else rest
        cells = (found.get("id", ""), found.get("score", ""), found.get("content", ""), metadata or "")
        out.add("<tr>" + "".join(f"<td>{out.text(cell)}</td>" for cell in cells) + "</tr>")
    out.add("</tbody></table>")


def _parts(out: Writer, parts: Any) -> str:
    if not isinstance(parts, list):
        return f"<pre>{out.text(parts)}</pre>"
    return "".join(_part(out, part) for part in parts)


def _part(out: Writer, part: Any) -> str:
    if not isinstance(part, dict):
        return f"<pre>{out.text(part)}</pre>"
    kind = part.get("type")
    if kind == "text":
        return f"<pre>{out.text(part.get('content', ''))}</pre>"
    if kind == "json":
        return f"<pre>{out.text(part.get('content'))}</pre>"
    if kind == "reasoning":
        return f"<details><summary>Reasoning</summary><pre>{out.text(part.get('content', ''))}</pre></details>"
    if kind == "tool_call":
        return f"<pre>calls {escape(str(part.get('name')))}({out.text(part.get('arguments'))})</pre>"
    if kind == "tool_call_response":
        return f"<pre>result: {out.text(part.get('response', part.get('result')))}</pre>"
    return f"<pre>{out.text(part)}</pre>"


def duration(nanoseconds: int) -> str:
    if nanoseconds < 1_000_000:
        return f"{nanoseconds / 1e6:.2f} ms"
    return f"{nanoseconds / 1e6:.0f} ms" if nanoseconds < 1_000_000_000 else f"{nanoseconds / 1e9:.2f} s"


def money(dollars: float) -> str:
    return f"${dollars:.6f}" if dollars < 0.01 else f"${dollars:.4f}"
