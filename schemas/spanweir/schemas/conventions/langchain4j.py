"""LangChain4j: Micrometer's observations and Quarkus' spans, all attributes possibly strings; AI services as chains.

Source: langchain4j 1.19 observation listener, quarkus-langchain4j of July 2026. The listener has no content, and counts
tokens under bare names (`generic`). Quarkus' content is undivided text (`generic`); with the listener of OpenInference
for Java it is OpenInference's.
"""

import re

from spanweir.schemas.convention import NATIVE, Convention, rules, verbatim
from spanweir.schemas.conventions.eino import without_zeros
from spanweir.schemas.genai import GenAISpan, Tool
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import RawSpan, Value
from spanweir.schemas.values import number, text

_ANSWER = re.compile(r'ChatResponse \{ aiMessage = AiMessage \{ text = "(.*?)", thinking = ', re.DOTALL)


def dollars(value: Value) -> float | None:
    """Quarkus' estimate: an amount with its currency (`0.0021USD`)."""
    return number(value[:-3]) if isinstance(value, str) and value.endswith("USD") else None


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """Quarkus names spans `langchain4j.aiservices.<Class>.<method>` and `langchain4j.tools.<name>`, and writes 0 for
    parameters that are not set. OpenInference's listener writes a streamed answer as Java prints it."""
    if span.params is not None:
        without_zeros(span.params)
    if span.io is not None and isinstance(span.io.output, str) and (said := _ANSWER.match(span.io.output)):
        span.io.output = said[1]
    name = raw.name
    if name.startswith("langchain4j.aiservices."):
        span.kind = "chain"
    elif name.startswith("langchain4j.tools."):
        span.kind = "tool"
        span.tool = span.tool or Tool()
        span.tool.name = span.tool.name or name.rsplit(".", 1)[-1]


CONVENTION = Convention(
    name="langchain4j",
    marks=("langchain4j.", "dev.langchain4j."),
    scopes=(
        "dev.langchain4j",
        "io.quarkus.langchain4j",
        "io.quarkus.opentelemetry",
        "langchain4j",
        "com.arize.langchain4j",
    ),
    rank=NATIVE,
    rules=(
        *rules(
            {
                "langchain4j.tool.name": ("tool.name", text),
                "langchain4j.memory.id": ("conversation_id", text),
                "gen_ai.client.estimated_cost": ("cost.total", dollars),
            }
        ),
        *rules(
            {
                "langchain4j.tool.arguments": ("tool.arguments", verbatim),
                "langchain4j.tool.result": ("tool.result", verbatim),
            },
            content=True,
        ),
    ),
    refine=refine,
)
