"""Names that mean the same: finish reasons, roles, providers, frameworks, operations, each from every spelling seen.

Not here: keys of attributes (`conventions`).
"""

from typing import Any

FINISH_REASONS = {
    "stop": "stop", "end_turn": "stop", "stop_sequence": "stop", "completed": "stop", "complete": "stop",
    "finished": "stop", "end": "stop", "eos": "stop", "finish_reason_stop": "stop",
    "length": "length", "max_tokens": "length", "max_output_tokens": "length", "incomplete": "length",
    "tool_call": "tool_call", "tool_calls": "tool_call", "tool_use": "tool_call", "tool-calls": "tool_call",
    "function_call": "tool_call",
    "function_calls": "tool_call", "tool_execution": "tool_call",
    "content_filter": "content_filter", "content-filter": "content_filter", "safety": "content_filter",
    "refusal": "content_filter", "guardrail_intervened": "content_filter", "content_filtered": "content_filter",
    "prohibited_content": "content_filter", "blocklist": "content_filter", "spii": "content_filter",
    "recitation": "content_filter", "image_safety": "content_filter", "error_toxic": "content_filter",
    "model_length": "length", "model_context_window_exceeded": "length", "error_limit": "length",
    # Strands for TypeScript writes Bedrock's words in camel case.
    "endturn": "stop", "stopsequence": "stop", "tooluse": "tool_call", "maxtokens": "length",
    "modelcontextwindowexceeded": "length", "limitoutputtokens": "length", "contentfiltered": "content_filter",
    "guardrailintervened": "content_filter",
}  # fmt: skip


def finish_reason(value: str) -> str:
    """The common form of a finish reason (OpenTelemetry's), or the reason as sent (semconv guide 7.4.11)."""
    return FINISH_REASONS.get(value) or FINISH_REASONS.get(value.lower().rpartition(".")[2], value)


ROLES = {
    "model": "assistant", "ai": "assistant", "bot": "assistant", "human": "user", "function": "tool",
    "aimessage": "assistant", "aimessagechunk": "assistant", "humanmessage": "user", "humanmessagechunk": "user",
    "systemmessage": "system", "toolmessage": "tool", "functionmessage": "tool", "chatmessage": "user",
    "tool-call": "assistant", "tool-response": "tool", "tool_call": "assistant", "tool_response": "tool",
    "ipython": "tool", "chatbot": "assistant",
}  # fmt: skip


STANDARD_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})


def role(value: str) -> str:
    if value in STANDARD_ROLES:
        return value
    lowered = value.lower().rpartition(".")[2]
    return ROLES.get(lowered, lowered)


# Lower-case spelling -> `gen_ai.provider.name`.
PROVIDERS = {
    "openai": "openai", "openai_v1": "openai", "openai-chat": "openai", "openai_chat": "openai",
    "chatopenai": "openai", "oai": "openai", "openai-responses": "openai", "open_ai": "openai",
    "anthropic": "anthropic", "claude": "anthropic", "chatanthropic": "anthropic",
    "google": "gcp.gemini", "gemini": "gcp.gemini", "gcp.gemini": "gcp.gemini", "google_genai": "gcp.gemini",
    "google-genai": "gcp.gemini", "google.generative-ai": "gcp.gemini", "google-generativeai": "gcp.gemini",
    "google_generativeai": "gcp.gemini", "google_ai_studio": "gcp.gemini", "googleai": "gcp.gemini",
    "google-gla": "gcp.gemini", "google_ai_gemini": "gcp.gemini", "gcp.gen_ai": "gcp.gen_ai", "gcp": "gcp.gen_ai",
    "vertex_ai": "gcp.vertex_ai", "vertexai": "gcp.vertex_ai", "gcp.vertex_ai": "gcp.vertex_ai",
    "google-vertex": "gcp.vertex_ai", "google_vertexai": "gcp.vertex_ai", "google.vertex": "gcp.vertex_ai",
    "google.vertex.chat": "gcp.vertex_ai", "vertex": "gcp.vertex_ai", "google_vertex_ai_gemini": "gcp.vertex_ai",
    "google_vertex_ai_anthropic": "gcp.vertex_ai",
    "aws": "aws.bedrock", "bedrock": "aws.bedrock", "aws.bedrock": "aws.bedrock", "amazon": "aws.bedrock",
    "amazon_bedrock": "aws.bedrock", "aws_bedrock": "aws.bedrock", "amazon-bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "azure": "azure.ai.openai", "azure_openai": "azure.ai.openai", "az.ai.openai": "azure.ai.openai",
    "azure_open_ai": "azure.ai.openai",
    "azure.ai.openai": "azure.ai.openai", "azure-openai": "azure.ai.openai", "openai_azure": "azure.ai.openai",
    "az.ai.inference": "azure.ai.inference", "azure.ai.inference": "azure.ai.inference",
    "azure_ai": "azure.ai.inference", "azure-ai-inference": "azure.ai.inference",
    "microsoft_foundry": "azure.ai.inference",
    "cohere": "cohere", "mistral": "mistral_ai", "mistralai": "mistral_ai", "mistral_ai": "mistral_ai",
    "groq": "groq", "deepseek": "deepseek", "perplexity": "perplexity", "xai": "x_ai", "x_ai": "x_ai", "grok": "x_ai",
    "moonshot": "moonshot_ai", "moonshot_ai": "moonshot_ai", "moonshotai": "moonshot_ai",
    "watsonx": "ibm.watsonx.ai", "ibm.watsonx.ai": "ibm.watsonx.ai", "watson": "ibm.watsonx.ai",
    "ollama": "ollama", "huggingface": "huggingface", "hugging_face": "huggingface", "together": "together_ai",
    "together_ai": "together_ai", "togetherai": "together_ai", "fireworks": "fireworks_ai",
    "fireworks_ai": "fireworks_ai", "replicate": "replicate", "cerebras": "cerebras", "openrouter": "openrouter",
    "alibaba": "dashscope", "qwen": "dashscope", "dashscope": "dashscope", "voyage": "voyageai", "voyageai": "voyageai",
    "voyage_ai": "voyageai",
    "databricks": "databricks", "nvidia": "nvidia", "sagemaker": "aws.sagemaker", "lmstudio": "lmstudio",
    "vllm": "vllm", "sambanova": "sambanova", "ai21": "ai21",
}  # fmt: skip

# Who stands where a provider is expected but is none (semconv guide 7.1).
FRAMEWORKS = frozenset(
    {
        "langchain", "langgraph", "llamaindex", "llama_index", "strands-agents", "strands", "autogen", "ag2", "crewai",
        "gcp.vertex.agent", "microsoft.agent_framework", "github", "litellm", "haystack", "dspy", "smolagents", "agno",
        "beeai", "koog", "mastra", "genkit", "semantic_kernel", "spring_ai", "pydantic_ai", "instructor", "mcp", "n8n",
        "pipecat", "livekit", "openai_agents", "openai-agents", "microsoft.foundry", "az.ai.agents", "custom", "dify",
        "portkey", "voltagent", "google_adk", "adk", "claude_agent_sdk", "_openai", "none", "null", "unknown", "eino",
        "langchain4j",
    }
)  # fmt: skip


def provider(value: Any) -> tuple[str | None, str | None]:
    """(provider in the spelling of `gen_ai.provider.name`, framework): one of the two, from any spelling of either."""
    if value.__class__ is not str or not value:
        return None, None
    known = PROVIDERS.get(value)
    if known is not None:
        return known, None
    lowered = value.strip().strip('"').lower()
    known = PROVIDERS.get(lowered)
    if known is not None:
        return known, None
    if lowered in FRAMEWORKS:
        return None, lowered
    if lowered.startswith("langgenius/"):  # Dify: `langgenius/openai/openai`
        return provider(lowered.partition("/")[2].partition("/")[0])
    # `openai.chat` (AI SDK), `anthropic.messages`, `openai/gpt-4o`, `azure-openai.responses`.
    for separator in (".", "/", ":"):
        head = lowered.partition(separator)[0]
        if head != lowered and head in PROVIDERS:
            return PROVIDERS[head], None
    if "." in lowered and (known := _HOSTS.get(lowered.partition(":")[0])) is not None:
        return known, None
    return lowered or None, None


# Hosts of APIs: LiveKit's plugins name the provider by where their client points to.
_HOSTS = {
    "api.openai.com": "openai", "api.anthropic.com": "anthropic", "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai", "api.deepseek.com": "deepseek", "api.x.ai": "x_ai",
    "api.cohere.com": "cohere", "api.perplexity.ai": "perplexity",
    "api.together.xyz": "together_ai", "api.fireworks.ai": "fireworks_ai", "api.cerebras.ai": "cerebras",
    "openrouter.ai": "openrouter", "api.moonshot.ai": "moonshot_ai", "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
}  # fmt: skip


OPERATIONS = {
    "chat": "llm", "generate_content": "llm", "text_completion": "llm", "completion": "llm", "acompletion": "llm",
    "responses": "llm", "response": "llm", "aresponses": "llm", "message": "llm", "messages": "llm", "llm": "llm",
    "llm_call": "llm", "generate": "llm", "stream": "llm", "fetch_response": "llm", "generation": "llm",
    "chat_model": "llm",
    "embeddings": "embedding", "embedding": "embedding", "aembedding": "embedding", "embed": "embedding",
    "retrieval": "retrieval", "vector_db_retrieve": "retrieval", "retrieve": "retrieval", "vectordb": "retrieval",
    "search": "retrieval", "rerank": "rerank", "reranking": "rerank",
    "retriever": "retrieval", "reranker": "rerank", "evaluator": "evaluation",
    "execute_tool": "tool", "tool_call": "tool", "tool": "tool", "function_call": "tool",
    "invoke_agent": "agent", "create_agent": "agent", "agent_call": "agent", "agent": "agent", "agent_run": "agent",
    "invoke_workflow": "workflow", "workflow": "workflow", "invoke_swarm": "workflow", "invoke_graph": "workflow",
    "handle_conversation_turn": "agent",
    "agent_step": "step", "plan": "step", "step": "step", "execute_task": "task", "task": "task",
    "execute_method": "task", "chain": "chain", "invoke_node": "chain",
    "create_memory_store": "memory", "search_memory": "memory", "create_memory": "memory", "update_memory": "memory",
    "upsert_memory": "memory", "delete_memory": "memory", "delete_memory_store": "memory", "memory": "memory",
    "guardrail": "guardrail", "apply_guardrail": "guardrail", "evaluation": "evaluation", "evaluate": "evaluation",
    "image": "image", "image_generation": "image", "generate_image": "image", "audio": "audio",
    "speech": "audio", "transcription": "audio", "text_to_speech": "audio", "moderation": "moderation",
    "prompt": "prompt", "parser": "parser", "hook": "hook", "execute_hook": "hook", "router": "router",
}  # fmt: skip
"""`gen_ai.operation.name` -> kind; the standard names and those seen in the wild."""

STANDARD_OPERATIONS = frozenset(
    {
        "chat", "generate_content", "text_completion", "embeddings", "retrieval", "fetch_response", "execute_tool",
        "invoke_agent", "create_agent", "invoke_workflow", "plan", "create_memory_store", "search_memory",
        "create_memory", "update_memory", "upsert_memory", "delete_memory", "delete_memory_store",
    }
)  # fmt: skip
