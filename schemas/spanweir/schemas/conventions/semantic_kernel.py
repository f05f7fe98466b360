"""Microsoft Semantic Kernel: functions as tools, finish reasons joined by commas, and content in log records whose
order is an attribute. Source: semantic-kernel 1.45 (semconv guide 5.8); .NET's `Microsoft.Extensions.AI` beside it.
"""

from spanweir.schemas.content import tools
from spanweir.schemas.convention import NATIVE, Convention, rules, verbatim
from spanweir.schemas.genai import GenAISpan
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import strings, text


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """`orchestrate_tools` (Microsoft.Extensions.AI) repeats the sum of the calls below it, and says nothing else."""
    if raw.name.startswith("orchestrate_tools") or span.op == "orchestrate_tools":
        span.kind = "step"
    elif span.kind in ("other", "llm") and "semantic_kernel.function.name" in raw.attributes:
        span.kind = "tool"


CONVENTION = Convention(
    name="semantic_kernel",
    marks=("semantic_kernel.", "sk.available_functions"),
    scopes=("semantic_kernel", "Microsoft.SemanticKernel", "Experimental.Microsoft.Extensions.AI"),
    rank=NATIVE,
    rules=(
        *rules(
            {
                "semantic_kernel.function.name": ("tool.name", text),
                "semantic_kernel.function.description": ("tool.description", text),
                "gen_ai.response.finish_reason": ("response.finish_reasons", strings),
            }
        ),
        *rules(
            {
                "sk.available_functions": ("tools", lambda value, notes: tools(strings(value), notes)),
                "semantic_kernel.function.invocation.arguments": (
                    "tool.arguments",
                    verbatim,
                ),
                "semantic_kernel.function.invocation.result": ("tool.result", verbatim),
                "semantic_kernel.function.arguments": ("tool.arguments", verbatim),
                "semantic_kernel.function.result": ("tool.result", verbatim),
            },
            content=True,
        ),
    ),
    refine=refine,
)
