"""Weights & Biases Weave: OpenTelemetry's keys and `weave.*`, `wandb.*`. Source: weave 0.54 (semconv guide 5.10)."""

from spanweir.schemas.convention import NATIVE, Convention, rules, word
from spanweir.schemas.values import text

KINDS = {"llm": "llm", "tool": "tool", "agent": "agent", "chain": "chain", "retriever": "retrieval"}


CONVENTION = Convention(
    name="weave",
    marks=("weave.", "wandb."),
    rank=NATIVE,
    rules=rules(
        {
            "weave.span.kind": ("kind", word(KINDS)),
            "wandb.thread_id": ("session_id", text),
            "wandb.display_name": ("io.trace_name", text),
        }
    ),
)
