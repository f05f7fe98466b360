"""LangChain4j: Micrometer's observations and Quarkus' spans, all attributes possibly strings; AI services as chains.

Source: langchain4j 1.x observation listener, quarkus-langchain4j (semconv guide 5.9). Its content is OpenTelemetry's or
OpenInference's (Java), which those conventions read.
"""

from spanweir.schemas.convention import NATIVE, Convention, rules, verbatim
from spanweir.schemas.genai import GenAISpan, Tool
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import text


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """Quarkus names spans `langchain4j.aiservices.<Class>.<method>` and `langchain4j.tools.<name>`."""
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
    scopes=("dev.langchain4j", "io.quarkus.langchain4j", "langchain4j"),
    rank=NATIVE,
    rules=(
        *rules({"langchain4j.tool.name": ("tool.name", text), "langchain4j.memory.id": ("conversation_id", text)}),
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
