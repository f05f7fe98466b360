"""BeeAI: OpenInference's spans with free keys beside them. Source: beeai-framework through
openinference-instrumentation-beeai (semconv guide 5.9).
"""

from spanweir.schemas.convention import WHOLE, Convention, rules
from spanweir.schemas.values import text

CONVENTION = Convention(
    name="beeai",
    marks=("beeai.",),
    scopes=("openinference.instrumentation.beeai", "beeai-framework", "@arizeai/openinference-instrumentation-beeai"),
    rank=WHOLE,
    rules=rules({"target": ("graph.node", text), "thought": ("metadata", lambda value: {"thought": value})}),
)
