"""Attribute names of the newest OpenTelemetry GenAI conventions that this package emits.

Literals, because the `opentelemetry-semantic-conventions` package (0.66b2) still stops at the frozen 1.41 names.
Where OpenTelemetry has no name yet (rerank, guardrail, evaluation as span kinds) the OpenInference one is added.
"""

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_ID = "gen_ai.response.id"
FINISH_REASONS = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
REQUEST_STREAM = "gen_ai.request.stream"

INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS = "gen_ai.usage.cache_write.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"

CONVERSATION_ID = "gen_ai.conversation.id"
SESSION_ID = "session.id"
USER_ID = "user.id"
TAGS = "tag.tags"
TRACE_TAG = "mlflow.traceTag."
METADATA = "metadata"

AGENT_NAME = "gen_ai.agent.name"
AGENT_ID = "gen_ai.agent.id"
AGENT_DESCRIPTION = "gen_ai.agent.description"
AGENT_VERSION = "gen_ai.agent.version"
WORKFLOW_NAME = "gen_ai.workflow.name"
DATA_SOURCE_ID = "gen_ai.data_source.id"
DIMENSION_COUNT = "gen_ai.embeddings.dimension.count"
TOP_K = "gen_ai.retrieval.top_k"

TOOL_NAME = "gen_ai.tool.name"
TOOL_TYPE = "gen_ai.tool.type"
TOOL_DESCRIPTION = "gen_ai.tool.description"
TOOL_CALL_ID = "gen_ai.tool.call.id"

EVALUATION_NAME = "gen_ai.evaluation.name"
EVALUATION_SCORE = "gen_ai.evaluation.score.value"
EVALUATION_LABEL = "gen_ai.evaluation.score.label"
EVALUATION_EXPLANATION = "gen_ai.evaluation.explanation"
EVALUATION_EVENT = "gen_ai.evaluation.result"

ERROR_TYPE = "error.type"
OPENINFERENCE_KIND = "openinference.span.kind"

SYSTEM_INSTRUCTIONS = "gen_ai.system_instructions"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
TOOL_DEFINITIONS = "gen_ai.tool.definitions"
TOOL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_RESULT = "gen_ai.tool.call.result"
QUERY_TEXT = "gen_ai.retrieval.query.text"
RERANK_QUERY = "reranker.query"
RERANK_TOP_K = "reranker.top_k"
DOCUMENTS = "gen_ai.retrieval.documents"

CONTENT = frozenset(
    {
        SYSTEM_INSTRUCTIONS,
        INPUT_MESSAGES,
        OUTPUT_MESSAGES,
        TOOL_DEFINITIONS,
        TOOL_ARGUMENTS,
        TOOL_RESULT,
        QUERY_TEXT,
        RERANK_QUERY,
        DOCUMENTS,
        EVALUATION_EXPLANATION,
        "mlflow.spanInputs",
        "mlflow.spanOutputs",
    }
)
"""What the content policy governs: recorded, redacted, shortened or left out as a whole."""

FOREIGN_CONTENT = (
    "gen_ai.prompt.",
    "gen_ai.completion.",
    "input.value",
    "output.value",
    "llm.input_messages.",
    "llm.output_messages.",
    "llm.prompts.",
    "llm.completions.",
    "llm.prompt_template.",
    "llm.tools.",
    "retrieval.documents.",
    "reranker.input_documents.",
    "reranker.output_documents.",
    "embedding.embeddings.",
    "tool.parameters",
    "traceloop.entity.input",
    "traceloop.entity.output",
    "pydantic_ai.all_messages",
    "ai.prompt",
    "ai.response.text",
    "ai.response.object",
    "ai.toolCall.args",
    "ai.toolCall.result",
)
"""Prefixes under which other conventions (older OpenTelemetry, OpenInference, OpenLLMetry, …) keep content."""
CONTENT_EVENTS = (
    "gen_ai.content.",
    "gen_ai.system.message",
    "gen_ai.user.message",
    "gen_ai.assistant.message",
    "gen_ai.tool.message",
    "gen_ai.choice",
)

EXCEPTION_MESSAGE = "exception.message"
EXCEPTION_STACK = "exception.stacktrace"
EVENT_CONTENT = frozenset({EXCEPTION_MESSAGE, EXCEPTION_STACK, EVALUATION_EXPLANATION})
"""Attributes of events that may quote content."""

CLIENT_DETAILS_EVENT = "gen_ai.client.inference.operation.details"
