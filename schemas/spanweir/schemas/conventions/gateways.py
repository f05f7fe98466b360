"""Other gateways: Cloudflare AI Gateway (`gen_ai.prompt_json`), Vercel AI Gateway, Kong, TrueFoundry, Portkey, Bifrost,
agentgateway (`agw.`).

They write OpenTelemetry's keys; these are what they add. Source: their documentation and sources of 2026 (semconv guide
5.11).
"""

from spanweir.schemas.content import request, response, texts, tools
from spanweir.schemas.convention import WHOLE, Convention, rules
from spanweir.schemas.messages import messages, otel_parts
from spanweir.schemas.values import number, text

CONVENTION = Convention(
    name="gateways",
    marks=(
        "gen_ai.prompt_json",
        "gen_ai.completion_json",
        "gen_ai.model.provider",
        "vercel.ai_gateway.",
        "tfy.",
        "agw.ai.",
        "gen_ai.request.instructions",
        "gen_ai.input.text",
        "gen_ai.input.embedding",
        "gen_ai.error",
        "gen_ai.selected_key",
        "gen_ai.number_of_retries",
        "bifrost.",
    ),
    rank=WHOLE,
    rules=(
        *rules(
            {
                "gen_ai.model.provider": ("provider", text),
                "vercel.ai_gateway.generation.id": ("response.id", text),
                "tfy.request.cost": ("cost.total", number),
                "tfy.cost": ("cost.total", number),
                "agw.ai.usage.cost.total": ("cost.total", number),
                "agw.ai.usage.cost.input": ("cost.input", number),
                "agw.ai.usage.cost.output": ("cost.output", number),
                "gen_ai.error": ("error.message", text),
                "gen_ai.error.message": ("error.message", text),
                "gen_ai.error.type": ("error.type", text),
            }
        ),
        *rules(
            {
                "gen_ai.prompt_json": ("*", request),
                "gen_ai.completion_json": ("*", response),
                "gen_ai.request.instructions": ("system", otel_parts),
                "gen_ai.request.tools": ("tools", tools),
                "gen_ai.input.text": ("input", messages),
                "gen_ai.input.embedding": ("embeddings", texts),
            },
            content=True,
        ),
    ),
)
