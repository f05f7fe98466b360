"""Undivided inputs and outputs under general names. Read on every span, but they make none one about generative AI.

`gen_ai.prompt` and `gen_ai.completion` as whole strings are LangSmith's, OpenLIT's and Dify's; what they hold is
read by the span's kind (`settle`).
"""

from spanweir.schemas import associations
from spanweir.schemas.convention import GENERIC, WHOLE, Convention, rules, verbatim

_WHOLE = {"gen_ai.prompt": "io.input", "gen_ai.completion": "io.output"}
_GENERAL = {
    "input.value": "io.input", "output.value": "io.output", "inputs": "io.input", "outputs": "io.output",
    "input": "io.input", "output": "io.output", "prompt": "io.input", "completion": "io.output",
    "span.input": "io.input", "span.output": "io.output", "trace.input": "io.trace_input",
    "trace.output": "io.trace_output",
}  # fmt: skip

CONVENTION = Convention(
    name="generic",
    general=True,
    rank=GENERIC,
    rules=(
        *rules(
            {key: (field, verbatim) for key, field in _WHOLE.items()},
            rank=WHOLE,
            content=True,
        ),
        *rules(
            {key: (field, verbatim) for key, field in _GENERAL.items()},
            content=True,
        ),
        *rules({"metadata": ("*", associations.from_object)}, content=True),
    ),
    usage={"input_tokens": "input", "output_tokens": "output"},
)
