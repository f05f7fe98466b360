"""Other gateways: Cloudflare AI Gateway (`gen_ai.prompt_json`), Vercel AI Gateway, Kong, TrueFoundry, Portkey, Bifrost.

They write OpenTelemetry's keys; these are what they add. Source: their documentation of 2026 (semconv guide 5.11).
"""

from spanweir.schemas.content import request, response
from spanweir.schemas.convention import WHOLE, Convention, rules
from spanweir.schemas.values import number, text

CONVENTION = Convention(
    name="gateways",
    marks=("gen_ai.prompt_json", "gen_ai.completion_json", "gen_ai.model.provider", "vercel.ai_gateway.", "tfy."),
    rank=WHOLE,
    rules=(
        *rules(
            {
                "gen_ai.model.provider": ("provider", text),
                "vercel.ai_gateway.generation.id": ("response.id", text),
                "tfy.request.cost": ("cost.total", number),
                "tfy.cost": ("cost.total", number),
            }
        ),
        *rules(
            {
                "gen_ai.prompt_json": ("*", request),
                "gen_ai.completion_json": ("*", response),
            },
            content=True,
        ),
    ),
)
