"""What an application imports: set-up, the fluent and client API, autolog. Depends on the OpenTelemetry SDK only."""

from spanweir.instrumentation.instrumentors import autolog
from spanweir.instrumentation.operation import Operation
from spanweir.instrumentation.operations import (
    agent,
    chat,
    embeddings,
    evaluation,
    guardrail,
    rerank,
    retrieval,
    tool,
    workflow,
)
from spanweir.instrumentation.setup import flush, init
from spanweir.instrumentation.span import Span
from spanweir.instrumentation.state import update_current_trace
from spanweir.instrumentation.threads import carry
from spanweir.instrumentation.version import __version__

__all__ = [
    "Operation",
    "Span",
    "__version__",
    "agent",
    "autolog",
    "carry",
    "chat",
    "embeddings",
    "evaluation",
    "flush",
    "guardrail",
    "init",
    "rerank",
    "retrieval",
    "tool",
    "update_current_trace",
    "workflow",
]
