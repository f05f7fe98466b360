"""vLLM, SGLang and llm-d: the server's view of a model call, with neither operation nor (often) model name.

It is recognised by `gen_ai.latency.*`, whose values are seconds. Its tokens are those of the client's span in the same
trace. Source: vLLM 0.29, SGLang 0.5 (semconv guide 5.11).
"""

from spanweir.schemas.convention import NATIVE, Convention, rules
from spanweir.schemas.genai import GenAISpan
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import count, seconds, text


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """A root has no client beside it, so its tokens are the only ones."""
    span.kind = "llm"
    if span.usage is not None and raw.parent_id:
        span.usage.scope = "server_duplicate"


CONVENTION = Convention(
    name="vllm",
    marks=("gen_ai.latency.",),
    scopes=("vllm", "sglang"),
    rank=NATIVE,
    rules=rules(
        {
            "gen_ai.request.id": ("response.id", text),
            "gen_ai.request.n": ("params.n", count),
            "gen_ai.latency.time_to_first_token": ("timing.ttft_ns", seconds),
            "gen_ai.latency.e2e": ("timing.server_ns", seconds),
            "gen_ai.latency.time_in_queue": ("timing.queue_ns", seconds),
            "gen_ai.latency.time_in_model_prefill": ("timing.prefill_ns", seconds),
            "gen_ai.latency.time_in_model_decode": ("timing.decode_ns", seconds),
        }
    ),
    refine=refine,
)
