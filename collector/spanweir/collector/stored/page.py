"""A report as one HTML page that needs nothing else: tables, and charts drawn as SVG."""

from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from spanweir.schemas.report import Report, Row

_STYLE: Final = """
body { font: 14px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #1d2733;
  background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2.5rem }
.figures { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1rem 0 }
.figures div { border: 1px solid #d6dde6; border-radius: .5rem; padding: .5rem .9rem }
.figures b { display: block; font-size: 1.25rem } .figures span { color: #5b6a7b }
table { border-collapse: collapse; width: 100%; margin-top: .75rem }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #e5eaf0; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left; white-space: normal; word-break: break-word }
.wide { overflow-x: auto } .wide td:first-child { min-width: 11rem }
svg { width: 100%; height: auto; margin-top: .75rem } text { fill: currentColor; font-size: 11px }
@media (prefers-color-scheme: dark) {
  body { color: #dde5ee; background: #12181f } .figures div, th, td { border-color: #2c3744 }
  .figures span { color: #93a3b5 } }
"""
_BAR: Final = "#3a7ca5"
_SECOND: Final = "#d9822b"
_WIDTH: Final = 900
_LABEL: Final = 260
_LINE: Final = 22


def page(report: "Report") -> str:
    """The page. Names from traces are escaped."""
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>Traces {span_of_days(report)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>Traces, {span_of_days(report)}</h1>",
        _figures(report.total),
    ]
    if not report.total.spans:
        parts.append("<p>There are no spans of these days in the tables.</p>")
    if len(report.days) > 1:
        parts += ["<h2>By day</h2>", _columns(report.days, lambda row: row.input_tokens + row.output_tokens, "tokens")]
        parts.append(_columns(report.days, lambda row: row.cost, "US dollars"))
    for name, rows in report.groups.items():
        if rows:
            parts += [f"<h2>By {escape(name)}</h2>", _bars(rows), _table(name, rows)]
    return "".join([*parts, "</body></html>\n"])


def span_of_days(report: "Report") -> str:
    """`2025-11-25 to 2025-11-27`, one day, or that there is none."""
    if report.first is None:
        return "no days"
    return str(report.first) if report.first == report.last else f"{report.first} to {report.last}"


def _figures(total: "Row") -> str:
    figures = (
        (f"{total.traces:,}", "traces"), (f"{total.spans:,}", "spans"), (f"{total.errors:,}", "failed traces"),
        (f"{total.input_tokens:,}", "tokens in"), (f"{total.output_tokens:,}", "tokens out"),
        (f"${total.cost:,.4f}", "cost"), (f"{total.p50_ms:,.0f} ms", "median"), (f"{total.p95_ms:,.0f} ms", "p95"),
    )  # fmt: skip
    return "<div class='figures'>" + "".join(f"<div><b>{v}</b><span>{n}</span></div>" for v, n in figures) + "</div>"


def _bars(rows: Sequence["Row"]) -> str:
    """Horizontal bars: tokens where there are any, spans otherwise; a mark at the p95 duration."""
    has_tokens = any(row.input_tokens or row.output_tokens for row in rows)
    what = "tokens" if has_tokens else "spans"
    values = [row.input_tokens + row.output_tokens if has_tokens else row.spans for row in rows]
    slowest = max((row.p95_ms for row in rows), default=0) or 1
    most = max(values, default=0) or 1
    room = _WIDTH - _LABEL - 150
    lines = [
        f"<text x='{_LABEL}' y='12'>{what} (bar), p95 duration (line)</text>",
    ]
    for number, (row, value) in enumerate(zip(rows, values, strict=True)):
        y = 20 + number * _LINE
        mark = _LABEL + row.p95_ms / slowest * room
        lines.append(
            f"<text x='{_LABEL - 8}' y='{y + 13}' text-anchor='end'>{escape(_short(row.name))}"
            f"<title>{escape(row.name)}</title></text>"
            f"<rect x='{_LABEL}' y='{y + 2}' width='{value / most * room:.1f}' height='14' fill='{_BAR}' rx='2'/>"
            f"<line x1='{mark:.1f}' x2='{mark:.1f}' y1='{y}' y2='{y + 18}' stroke='{_SECOND}' stroke-width='2'/>"
            f"<text x='{_WIDTH - 140}' y='{y + 13}'>{value:,} · {row.p95_ms:,.0f} ms</text>"
        )
    height = 24 + len(rows) * _LINE
    return f"<svg viewBox='0 0 {_WIDTH} {height}' role='img' aria-label='{what}'>{''.join(lines)}</svg>"


def _columns(rows: Sequence["Row"], value: Callable[["Row"], float], what: str) -> str:
    """Vertical columns, one a day."""
    values = [value(row) for row in rows]
    most = max(values) or 1
    step = (_WIDTH - 80) / len(rows)
    drawn = [
        f"<rect x='{60 + number * step + 1:.1f}' y='{130 - height:.1f}' width='{max(step - 2, 1):.1f}' "
        f"height='{height:.1f}' fill='{_BAR}'><title>{escape(row.name)}: {v:,.4g} {what}</title></rect>"
        for number, (row, v) in enumerate(zip(rows, values, strict=True))
        for height in [v / most * 110]
    ]
    axis = (
        f"<text x='52' y='26' text-anchor='end'>{most:,.4g}</text><text x='52' y='132' text-anchor='end'>0</text>"
        f"<text x='60' y='148'>{escape(rows[0].name)}</text>"
        f"<text x='{_WIDTH - 20}' y='148' text-anchor='end'>{escape(rows[-1].name)}</text>"
        f"<text x='60' y='12'>{what} a day</text>"
    )
    return f"<svg viewBox='0 0 {_WIDTH} 154' role='img' aria-label='{what} a day'>{axis}{''.join(drawn)}</svg>"


def _table(name: str, rows: Sequence["Row"]) -> str:
    head = "".join(
        f"<th>{escape(column)}</th>"
        for column in (name, "spans", "errors", "tokens in", "tokens out", "cost $", "p50 ms", "p95 ms")
    )
    body = "".join(
        f"<tr><td>{escape(row.name)}</td><td>{row.spans:,}</td><td>{row.errors:,}</td><td>{row.input_tokens:,}</td>"
        f"<td>{row.output_tokens:,}</td><td>{row.cost:,.4f}</td><td>{row.p50_ms:,.0f}</td><td>{row.p95_ms:,.0f}</td></tr>"
        for row in rows
    )
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _short(name: str) -> str:
    """Names differ at their ends more often than in the middle."""
    return name if len(name) <= 36 else f"{name[:15]}…{name[-20:]}"
