"""Keeps a share of the traces, chosen by trace id: every span of a trace, in every process, is kept or goes."""

from hashlib import blake2b

import msgspec

from spanweir.collector.processors.api import Context, Item

_BUCKETS = 1 << 32


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    sampling_percentage: float = 100.0
    """Share of traces that are kept, 0 to 100."""
    hash_seed: int = 0
    """Collectors in a row that shall choose independently need different seeds; those side by side the same one."""

    def __post_init__(self) -> None:
        if not 0 <= self.sampling_percentage <= 100:
            raise ValueError(f"sampling_percentage must be 0 to 100, not {self.sampling_percentage}")

    def build(self, context: Context) -> "Sampler":
        return Sampler(self, context)


class Sampler:
    """A `Processor`."""

    rewrites = True

    def __init__(self, config: Config, context: Context) -> None:
        self._discard = context.discard
        self._seed = str(config.hash_seed).encode()[:64]
        self._limit = round(config.sampling_percentage / 100 * _BUCKETS)

    def process(self, items: list[Item]) -> list[Item]:
        kept = []
        for item in items:
            if self.keeps(item.raw.trace_id):
                kept.append(item)
            else:
                self._discard(item.raw, "sampled")
        return kept

    def keeps(self, trace_id: str) -> bool:
        digest = blake2b(trace_id.encode(), digest_size=4, key=self._seed).digest()
        return int.from_bytes(digest, "big") < self._limit
