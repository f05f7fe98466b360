"""`spanweir explain`: span by span, which convention and which attribute each field came from."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from spanweir.collector.cli._common import configured, fail, load_or_exit
from spanweir.schemas.raw import RawLog, RawSpan

_TRACE_ID = re.compile(r"(?:tr-)?([0-9a-fA-F]{32})")


@click.command()
@configured
@click.argument("what", metavar="FILE|TRACE_ID")
@click.option("--span", "span_id", default="", metavar="SPAN_ID", help="Only this span.")
@click.option("--width", default=100, show_default=True, help="Values are cut at this length.")
def command(config: Sequence[str], assignments: Sequence[str], what: str, span_id: str, width: int) -> None:
    """Say of each field of each span where it came from, what lost against it, and what was left unread.

    FILE holds OTLP: a serialized request, JSON, or JSON lines as the `file` exporter writes them. A TRACE_ID is looked
    for in the queue.
    """
    if Path(what).is_file():
        spans, logs = _from_file(Path(what))
    elif match := _TRACE_ID.fullmatch(what):
        spans, logs = _from_queue(config, assignments, match[1].lower())
    else:
        fail(f"{what!r} is neither a file nor a trace id of 32 hex digits", code=2)
    spans = [span for span in spans if span_id in ("", span.span_id)]
    if not spans:
        fail(f"there is no such span in {what}")
    for span in spans:
        own = [log for log in logs if (log.trace_id, log.span_id) == (span.trace_id, span.span_id)]
        click.echo("\n".join(_lines(span, own, width)) + "\n")


def _lines(raw: RawSpan, logs: list[RawLog], width: int) -> Iterator[str]:
    from spanweir.schemas.explain import explain, shown

    told = explain(raw, logs)
    yield click.style(f"{raw.name}  {raw.trace_id} {raw.span_id}", bold=True) + f"  scope {raw.scope.name or '-'}"
    if told.span is None:
        yield "  no convention says anything about it"
    else:
        yield f"  conventions: {', '.join(told.span.conventions) or 'none'}"
        for field, source in told.sources.items():
            keys = ", ".join(source.keys[:4]) + (f", … {len(source.keys)} in all" if len(source.keys) > 4 else "")
            where = (
                f"{source.convention} {source.location}: {keys}" if keys else f"{source.convention} {source.location}"
            )
            yield f"  {field:<24} {shown(told.span, field, width)}"
            yield click.style(f"  {'':<24} from {where}", dim=True)
        for conflict in told.conflicts:
            keys = ", ".join(conflict.keys[:4])
            yield f"  lost: {conflict.field} of {conflict.convention} ({keys}): {conflict.reason}"
        for flag in told.span.flags:
            yield f"  odd: {flag}"
    for issue in raw.issues:
        yield f"  repaired: {issue}"
    for key in told.unread:
        yield click.style(f"  unread: {key}", dim=True)


def _from_file(path: Path) -> tuple[list[RawSpan], list[RawLog]]:
    from spanweir.collector.decode import Undecodable
    from spanweir.collector.decode.otlp_proto import decode_logs, decode_traces

    spans: list[RawSpan] = []
    logs: list[RawLog] = []
    try:
        for signal, body in _requests(path.read_bytes()):
            if signal == "traces":
                spans += decode_traces(body)
            elif signal == "logs":
                logs += decode_logs(body)
    except (Undecodable, ValueError) as error:
        fail(f"{path}: {error}")
    return spans, logs


def _requests(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Serialized requests and their signals."""
    from spanweir.collector.receivers._json import to_protobuf

    if data.lstrip()[:1] != b"{":
        yield "traces", data
        return
    try:
        import orjson

        orjson.loads(data)
        documents = [data]
    except ValueError:
        documents = [line for line in data.splitlines() if line.strip()]
    for document in documents:
        for signal, key in (("traces", b'"resourceSpans"'), ("logs", b'"resourceLogs"')):
            if key in document:
                yield signal, to_protobuf(signal, document).body


def _from_queue(config: Sequence[str], assignments: Sequence[str], trace_id: str) -> tuple[list[RawSpan], list[RawLog]]:
    from spanweir.collector.decode.otlp_proto import decode_logs, decode_traces
    from spanweir.collector.queue import disk
    from spanweir.collector.queue.api import QueueUnavailable
    from spanweir.collector.queue.inspect import records

    queue = load_or_exit(config, assignments).service.queue.config
    if not isinstance(queue, disk.Config):
        fail("service.queue: only a queue of type disk can be looked into", code=2)
    wanted = bytes.fromhex(trace_id)
    spans: list[RawSpan] = []
    logs: list[RawLog] = []
    try:
        for record in records(queue):
            if wanted in record.body:
                if record.signal == "traces":
                    spans += [span for span in decode_traces(record.body) if span.trace_id == trace_id]
                elif record.signal == "logs":
                    logs += [log for log in decode_logs(record.body) if log.trace_id == trace_id]
    except QueueUnavailable as error:
        fail(str(error))
    if not spans:
        fail(
            f"trace {trace_id} is not in the queue {queue.directory}: records leave it when every exporter has them; "
            "set service.queue.retention to keep them longer"
        )
    return spans, logs
