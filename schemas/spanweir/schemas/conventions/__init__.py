"""One file for each convention; `ORDER` says which is believed first where two say different things of equal rank.

A new convention is a file here that exports `CONVENTION` (see `spanweir.schemas.convention`), its place in `ORDER`, and
at least one case in `tests/golden/<convention>/`.
"""

from collections.abc import Sequence
from importlib import import_module

from spanweir.schemas.convention import Convention

ORDER = (
    "mlflow",
    "strands",
    "litellm",
    "langfuse",
    "langsmith",
    "mastra",
    "otel_genai",
    "openinference",
    "anthropic_sdk",
    "vercel_ai",
    "tanstack",
    "pydantic_ai",
    "logfire_agents",
    "openai_agents",
    "google_adk",
    "google_genai",
    "agent_framework",
    "semantic_kernel",
    "azure_ai",
    "autogen",
    "ag2",
    "adot",
    "openlit",
    "laminar",
    "genkit",
    "livekit",
    "voltagent",
    "haystack",
    "llama_index",
    "spring_ai",
    "langchain4j",
    "eino",
    "vector_db",
    "openrouter",
    "vllm",
    "sentry",
    "dify",
    "n8n",
    "koog",
    "openllmetry",
    "crewai",
    "braintrust",
    "agentops",
    "honeyhive",
    "langwatch",
    "netra",
    "traceai",
    "monocle",
    "mirascope",
    "pipecat",
    "weave",
    "opik",
    "gateways",
    "smolagents",
    "agno",
    "beeai",
    "general",
    "generic",
)
"""Strongest first. Ranks of single rules come before this order."""


def load(order: Sequence[str] = ()) -> tuple[Convention, ...]:
    """The conventions of these names, in this order; all of `ORDER` where none is named.

    Raises ValueError for a name that is no convention.
    """
    unknown = [name for name in order if name not in ORDER]
    if unknown:
        raise ValueError(f"no convention {unknown[0]!r}; there are {', '.join(ORDER)}")
    return tuple(import_module(f"{__name__}.{name}").CONVENTION for name in order or ORDER)
