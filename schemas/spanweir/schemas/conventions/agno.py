"""Agno: OpenInference's or OpenTelemetry's spans with `agno.*` beside them, once under the literal key
`agno{key_suffix}.tools`. Source: agno 1.x and 2.x (semconv guide 5.9).
"""

from spanweir.schemas.content import tools
from spanweir.schemas.convention import WHOLE, Convention, rules
from spanweir.schemas.values import text

CONVENTION = Convention(
    name="agno",
    marks=("agno.", "agno{key_suffix}."),
    scopes=("openinference.instrumentation.agno", "opentelemetry.instrumentation.genai.agno"),
    rank=WHOLE,
    rules=(
        *rules(
            {
                "agno.agent.id": ("agent.id", text),
                "agno.agent": ("agent.name", text),
                "agno.team.id": ("graph.workflow_id", text),
                "agno.team": ("graph.workflow", text),
                "agno.run.id": ("graph.task_id", text),
            }
        ),
        *rules({"agno.tools": ("tools", tools), "agno{key_suffix}.tools": ("tools", tools)}, content=True),
    ),
)
