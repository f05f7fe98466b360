"""Traces under the notebook cell that produced them, without a server. Not here: what they look like (`html`).

`init()` switches this on in a Jupyter kernel; `disable()` or `SPANWEIR_NOTEBOOK=false` switches it off.
"""

import os
import sys
import threading
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from spanweir.instrumentation import html, lazy, state, view, wire
from spanweir.instrumentation.worker import Worker

SWITCH = "SPANWEIR_NOTEBOOK"
MAX_TRACES = 10
"""Shown under one cell; of more, the last ones."""
MAX_SPANS = 5_000
MAX_BYTES = 64 << 20
"""Held at most until the cell is done; beyond either the oldest trace is forgotten."""


class Cell:
    """Holds the spans that have ended since the last cell: those that are exported, with no call in them twice."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._traces: dict[int, list[ReadableSpan]] = {}
        self._count = self._bytes = 0
        self.on = True

    def ended(self, span: ReadableSpan) -> None:
        if not self.on or span.context is None:
            return
        with self._lock:
            self._traces.setdefault(span.context.trace_id, []).append(span)
            self._count += 1
            self._bytes += _size(span)
            while self._traces and (self._count > MAX_SPANS or self._bytes > MAX_BYTES):
                self._forget(next(iter(self._traces)))

    def take(self) -> list[list[ReadableSpan]]:
        """The traces whose root has ended; the others stay."""
        with self._lock:
            done = [
                k for k, spans in self._traces.items() if any(s.parent is None or s.parent.is_remote for s in spans)
            ]
            return [self._forget(key) for key in done]

    def _forget(self, key: int) -> list[ReadableSpan]:
        spans = self._traces.pop(key)
        self._count -= len(spans)
        self._bytes -= sum(map(_size, spans))
        return spans

    def after_cell(self, *_: Any) -> None:
        traces = self.take()
        policy = state.policy()
        for spans in traces[-MAX_TRACES:] if self.on else ():
            # The cell's output is saved with the notebook: nothing may stand there that is not sent either.
            _show(html.render(view.of_spans([wire.governed(span, policy) for span in spans])))


def _size(span: ReadableSpan) -> int:
    content = lazy.content_of(span)
    return 1000 if content is None else 1000 + content.size


_cell: Cell | None = None


def enable(worker: Worker) -> bool:
    """Show what this worker exports under each cell from now on. False where there is no notebook."""
    global _cell
    shell = _shell()
    if shell is None or os.environ.get(SWITCH, "").strip().lower() in ("false", "0", "off"):
        return False
    if _cell is None:
        _cell = Cell()
        shell.events.register("post_run_cell", _cell.after_cell)
    worker.listen(_cell.ended)
    _cell.on = True
    return True


def disable() -> None:
    """Show nothing any more, and hold nothing."""
    if _cell is not None:
        _cell.on = False
        _cell.take()


def display(trace: Any) -> None:
    """Show a trace: an MLflow `Trace`, the dictionary of one, a trace id (which MLflow then looks up), or ended spans.

    Raises:
        TypeError: it is none of these.
        LookupError: MLflow knows no trace of that id.
    """
    if isinstance(trace, str):
        import mlflow

        found = mlflow.get_trace(trace)
        if found is None:
            raise LookupError(f"no trace {trace} in {mlflow.get_tracking_uri()}")
        trace = found
    if isinstance(trace, (list, tuple)) and trace and all(isinstance(span, ReadableSpan) for span in trace):
        _show(html.render(view.of_spans(trace)))
    else:
        _show(html.render(view.of_stored(trace)))


def _show(markup: str) -> None:
    from IPython.display import HTML
    from IPython.display import display as show

    show(HTML(markup))


def _shell() -> Any:
    """IPython's shell, if it has a kernel behind it (a notebook, not a terminal)."""
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython

    shell = get_ipython()
    return shell if shell is not None and hasattr(shell, "kernel") else None
