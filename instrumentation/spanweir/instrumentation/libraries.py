"""Which instrumentor stands for which library, in order of preference: OpenTelemetry's own, then OpenInference.

LlamaIndex and DSPy are the exceptions: OpenTelemetry's own (1.3b0) have no span for a query engine or a module, so that
one query falls apart into several traces.

A table; `instrumentors` uses it. An instrumentor is taken when its package and the library it instruments are there.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Library:
    """A library that can be instrumented, and by what."""

    module: str
    """What the application imports."""
    instrumentors: tuple[str, ...]
    """`module:class`, the preferred one first. `native:` stands for a library that instruments itself."""
    package: str
    """What to install where there is no instrumentor yet."""


LIBRARIES: dict[str, Library] = {
    "openai": Library(
        "openai",
        (
            "opentelemetry.instrumentation.genai.openai:OpenAIInstrumentor",
            "opentelemetry.instrumentation.openai_v2:OpenAIInstrumentor",
            "openinference.instrumentation.openai:OpenAIInstrumentor",
        ),
        "opentelemetry-instrumentation-genai-openai",
    ),
    "anthropic": Library(
        "anthropic",
        (
            "opentelemetry.instrumentation.genai.anthropic:AnthropicInstrumentor",
            "openinference.instrumentation.anthropic:AnthropicInstrumentor",
        ),
        "opentelemetry-instrumentation-genai-anthropic",
    ),
    "google_genai": Library(
        "google.genai",
        (
            "opentelemetry.instrumentation.google_genai:GoogleGenAiSdkInstrumentor",
            "openinference.instrumentation.google_genai:GoogleGenAIInstrumentor",
        ),
        "opentelemetry-instrumentation-google-genai",
    ),
    "langchain": Library(
        "langchain_core",
        (
            "opentelemetry.instrumentation.genai.langchain:LangChainInstrumentor",
            "openinference.instrumentation.langchain:LangChainInstrumentor",
        ),
        "opentelemetry-instrumentation-genai-langchain",
    ),
    "llama_index": Library(
        "llama_index.core",
        (
            "openinference.instrumentation.llama_index:LlamaIndexInstrumentor",
            "opentelemetry.instrumentation.genai.llama_index:LlamaIndexInstrumentor",
        ),
        "openinference-instrumentation-llama-index",
    ),
    "openai_agents": Library(
        "agents",
        (
            "opentelemetry.instrumentation.genai.openai_agents:OpenAIAgentsInstrumentor",
            "openinference.instrumentation.openai_agents:OpenAIAgentsInstrumentor",
        ),
        "opentelemetry-instrumentation-genai-openai-agents",
    ),
    "pydantic_ai": Library("pydantic_ai", ("native:pydantic_ai",), "pydantic-ai"),
    "crewai": Library(
        "crewai",
        ("openinference.instrumentation.crewai:CrewAIInstrumentor",),
        "openinference-instrumentation-crewai",
    ),
    "dspy": Library(
        "dspy",
        (
            "openinference.instrumentation.dspy:DSPyInstrumentor",
            "opentelemetry.instrumentation.genai.dspy:DSPyInstrumentor",
        ),
        "openinference-instrumentation-dspy",
    ),
    "bedrock": Library(
        "botocore",
        (
            "opentelemetry.instrumentation.genai.bedrock:BedrockInstrumentor",
            "opentelemetry.instrumentation.botocore:BotocoreInstrumentor",
            "openinference.instrumentation.bedrock:BedrockInstrumentor",
        ),
        "opentelemetry-instrumentation-genai-bedrock",
    ),
    "litellm": Library(
        "litellm",
        ("openinference.instrumentation.litellm:LiteLLMInstrumentor",),
        "openinference-instrumentation-litellm",
    ),
    "mistralai": Library(
        "mistralai",
        ("openinference.instrumentation.mistralai:MistralAIInstrumentor",),
        "openinference-instrumentation-mistralai",
    ),
    "groq": Library(
        "groq", ("openinference.instrumentation.groq:GroqInstrumentor",), "openinference-instrumentation-groq"
    ),
    "smolagents": Library(
        "smolagents",
        (
            "opentelemetry.instrumentation.genai.smolagents:SmolagentsInstrumentor",
            "openinference.instrumentation.smolagents:SmolagentsInstrumentor",
        ),
        "openinference-instrumentation-smolagents",
    ),
    "agno": Library(
        "agno",
        (
            "opentelemetry.instrumentation.genai.agno:AgnoInstrumentor",
            "openinference.instrumentation.agno:AgnoInstrumentor",
        ),
        "opentelemetry-instrumentation-genai-agno",
    ),
    "haystack": Library(
        "haystack",
        ("openinference.instrumentation.haystack:HaystackInstrumentor",),
        "openinference-instrumentation-haystack",
    ),
    "mcp": Library("mcp", ("openinference.instrumentation.mcp:MCPInstrumentor",), "openinference-instrumentation-mcp"),
}
"""By the name that `autolog` takes."""
