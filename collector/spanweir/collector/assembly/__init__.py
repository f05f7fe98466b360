"""Trace assembly: spans in, spans and their traces' rows out, as absolute values.

`assembler` is the state machine over all traces; `state` is what is kept of one; `totals`, `lifting` and `rows` are its
three computations. `join` brings log records to their spans first. Nothing here reads a clock: `now_s` is passed in.

Not here: what a span means (`spanweir.schemas`), where rows go (exporters), when to run (`delivery`).
"""

from spanweir.collector.assembly.options import Options

__all__ = ["Options"]
