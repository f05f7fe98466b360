"""What a model call cost, in US dollars, where the sender did not say.

Prices come from the genai-prices library and from `prices` here, which win. A cost that was reported is never
overwritten; a model without a known price has no cost, and is counted.
"""

from fnmatch import fnmatchcase

import msgspec

from spanweir.collector.processors._prices import DAY_NS, PriceBook, Prices, Tier
from spanweir.collector.processors.api import Context, Item
from spanweir.schemas.genai import Costs, GenAISpan, Usage

CALLS = frozenset({"llm", "embedding", "rerank", "image", "audio", "moderation"})
_MILLION = 1_000_000
_FOUND_MAX = 10_000


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dollars per million tokens of the models that match."""

    model: str = "*"
    """Model name, lower case; `*` and `?` match."""
    provider: str = "*"
    """Provider as in `gen_ai.provider.name`; `*` and `?` match."""
    input: float = 0.0
    """Input tokens that did not come from a cache."""
    output: float = 0.0
    """Output tokens, reasoning included."""
    cache_read: float | None = None
    """Input tokens read from a cache; default as `input`."""
    cache_write: float | None = None
    """Input tokens written to a cache; default as `input`."""
    cache_write_1h: float | None = None
    """Input tokens written to a cache that lives for an hour; default as `cache_write`."""

    def __post_init__(self) -> None:
        amounts = (self.input, self.output, self.cache_read, self.cache_write, self.cache_write_1h)
        if any(amount is not None and amount < 0 for amount in amounts):
            raise ValueError(f"prices of {self.model!r} must be zero or more")


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    prices: tuple[Price, ...] = ()
    """Your own prices; the first that matches wins over the price library."""
    library: bool = True
    """Use the prices of the genai-prices library for models that `prices` does not name."""
    provider_aliases: dict[str, str] = {}
    """Provider names as senders write them, to names that the library knows: `{my-gateway: openai}`."""

    def build(self, context: Context) -> "Cost":
        return Cost(self, context)


class Cost:
    """A `Processor`. Fills `GenAISpan.cost` of model calls whose sender said what was used, but not what it cost."""

    def __init__(self, config: Config, context: Context) -> None:
        self._config = config
        self._count = context.count
        self._book = PriceBook(context.state_directory) if config.library else None
        self._own = [(price, _prices(price)) for price in config.prices]
        self._found: dict[tuple[str | None, str | None, str | None, int], Prices] = {}
        """By provider, the model that answered, the one that was asked, and day."""

    def process(self, items: list[Item]) -> list[Item]:
        for item in items:
            span = item.span
            if span is not None and span.usage is not None and span.kind in CALLS:
                self._price(span, span.usage, item.raw.start_ns)
        return items

    def _price(self, span: GenAISpan, usage: Usage, start_ns: int) -> None:
        if span.cost is not None and _is_reported(span.cost):
            return
        model = span.model
        if usage.scope != "own" or model is None:
            return
        key = (span.provider, model.response, model.request, start_ns // DAY_NS)
        prices = self._found.get(key)
        if prices is None:
            prices = self._find(span.provider, model.response, start_ns) or self._find(
                span.provider, model.request, start_ns
            )
            if prices is None:
                self._count("spanweir_cost_unknown_models", 1)
                return
            if len(self._found) >= _FOUND_MAX:
                self._found.clear()
            self._found[key] = prices
        given, taken = cost_of(usage, prices)
        span.cost = Costs(input=given, output=taken, total=given + taken, computed=True)

    def _find(self, provider: str | None, model: str | None, start_ns: int) -> Prices | None:
        if not model:
            return None
        if self._own:
            name, seller = model.lower(), (provider or "").lower()
            for price, prices in self._own:
                if fnmatchcase(name, price.model.lower()) and fnmatchcase(seller, price.provider.lower()):
                    return prices
        if self._book is None:
            return None
        aliases = self._config.provider_aliases
        return self._book.find(aliases.get(provider, provider) if provider else None, model, start_ns)


def _is_reported(cost: Costs) -> bool:
    return not cost.computed and any(amount is not None for amount in (cost.total, cost.input, cost.output))


def cost_of(usage: Usage, prices: Prices) -> tuple[float, float]:
    """Dollars for input and output. Parts with a price of their own are taken out of the whole they belong to."""
    total = max(usage.input or 0, 0)
    if prices.plain is not None and not (usage.cache_read or usage.cache_write):
        given, taken = prices.plain
        return total * given / _MILLION, max(usage.output or 0, 0) * taken / _MILLION
    read = min(usage.cache_read or 0, total)
    long_write = usage.cache_write_1h or 0
    write = max(min(usage.cache_write or 0, total - read), 0)
    long_write = min(long_write, write)
    audio = min(usage.input_audio or 0, total - read - write) if prices.input_audio else 0
    plain = _rate(prices.input, total)
    write_rate = _rate(prices.cache_write, total, plain)
    given = (total - read - write - audio) * plain
    given += read * _rate(prices.cache_read, total, plain)
    given += (write - long_write) * write_rate + long_write * _rate(prices.cache_write_1h, total, write_rate)
    given += audio * _rate(prices.input_audio, total)
    out = max(usage.output or 0, 0)
    spoken = min(usage.output_audio or 0, out) if prices.output_audio else 0
    thought = min(usage.reasoning or 0, out - spoken) if prices.reasoning else 0
    taken = (out - spoken - thought) * _rate(prices.output, total)
    taken += spoken * _rate(prices.output_audio, total) + thought * _rate(prices.reasoning, total)
    return given / _MILLION, taken / _MILLION


def _rate(tiers: list[Tier], input_tokens: int, default: float = 0.0) -> float:
    """Crossing a threshold applies that tier's price to all tokens of the call."""
    rate = default if not tiers else tiers[0][1]
    for start, price in tiers[1:]:
        if input_tokens > start:
            rate = price
    return rate


def _prices(price: Price) -> Prices:
    def tiers(amount: float | None) -> list[Tier]:
        return [] if amount is None else [(0, amount)]

    return Prices(
        input=tiers(price.input),
        output=tiers(price.output),
        cache_read=tiers(price.cache_read),
        cache_write=tiers(price.cache_write),
        cache_write_1h=tiers(price.cache_write_1h),
    )
