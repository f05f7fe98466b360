"""Prices from genai-prices, looked up in a helper process: the library brings pydantic and a table of 40 MB.

`PriceBook` starts `python -m spanweir.collector.processors._prices` when a model is seen for the first time, keeps it
for a few seconds, and remembers the answers, also on disk: one question per model, provider and day. Prices that
change within a day (off-peak hours) are taken as of noon UTC. There is never a network call.
"""

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

_log = logging.getLogger(__name__)
KEYS = {
    "input_mtok": "input", "output_mtok": "output", "cache_read_mtok": "cache_read", "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h", "input_audio_mtok": "input_audio", "output_audio_mtok": "output_audio",
    "output_reasoning_mtok": "reasoning",
}  # fmt: skip
_ALIASES = {"x_ai": "x-ai", "xai": "x-ai", "azure.ai.inference": "azure", "az.ai.inference": "azure"}
"""Spellings of `gen_ai.provider.name` that genai-prices does not know."""
_HELPER = "spanweir.collector.processors._prices"
_KEEP_S = 3.0
_BOOK_MAX = 50_000
_SILENT_S = 60.0
"""A helper that died without an answer is not started again for so long."""
DAY_NS = 86_400_000_000_000

Tier = tuple[int, float]
"""(from more than so many input tokens of the call, dollars per million tokens)"""


class Prices(msgspec.Struct, frozen=True, omit_defaults=True, dict=True):
    """Dollars per million tokens, each as tiers in ascending order; empty: no price of its own."""

    input: list[Tier] = []
    output: list[Tier] = []
    cache_read: list[Tier] = []
    cache_write: list[Tier] = []
    cache_write_1h: list[Tier] = []
    input_audio: list[Tier] = []
    output_audio: list[Tier] = []
    reasoning: list[Tier] = []

    @cached_property
    def plain(self) -> tuple[float, float] | None:
        """The prices of input and output, where these are all that a call without cached tokens can need."""
        if len(self.input) > 1 or len(self.output) > 1 or self.input_audio or self.output_audio or self.reasoning:
            return None
        return (self.input[0][1] if self.input else 0.0), (self.output[0][1] if self.output else 0.0)


class PriceBook:
    """Not thread-safe."""

    def __init__(self, directory: str) -> None:
        """`directory` is where answers are remembered; empty for nowhere."""
        self._path = Path(directory, f"prices-{_release()}.json") if directory else None
        self._answers: dict[str, Prices | None] = {}
        self._helper: subprocess.Popen[str] | None = None
        self._used_s = 0.0
        self._silent_until_s = 0.0
        self._lock = threading.Lock()
        self._load()

    def find(self, provider: str | None, model: str, start_ns: int) -> Prices | None:
        """Prices of a model on the day of `start_ns`; None if nothing is known."""
        day = start_ns // DAY_NS
        key = f"{provider or ''}\n{model}\n{day}"
        try:
            return self._answers[key]
        except KeyError:
            pass
        if len(model) > 300 or time.monotonic() < self._silent_until_s:
            return None
        answer = self._ask(provider, model, day)
        if not answer:
            _log.warning("the price library gave no answer; calls have no computed cost for %.0f s", _SILENT_S)
            self._silent_until_s = time.monotonic() + _SILENT_S
            return None
        if len(self._answers) >= _BOOK_MAX:  # the older half goes: days that are past
            self._answers = dict(islice(self._answers.items(), _BOOK_MAX // 2, None))
        prices = self._answers[key] = msgspec.json.decode(answer, type=Prices | None)
        self._save()
        return prices

    def _ask(self, provider: str | None, model: str, day: int) -> str:
        """The helper's answer as JSON; empty if it has died, or could not be started."""
        with self._lock:
            try:
                helper = self._started()
                assert helper.stdin is not None
                assert helper.stdout is not None
                helper.stdin.write(json.dumps([provider, model, day]) + "\n")
                helper.stdin.flush()
                answer = helper.stdout.readline()
            except OSError:
                return ""
            self._used_s = time.monotonic()
        return answer

    def _started(self) -> subprocess.Popen[str]:
        helper = self._helper
        if helper is None or helper.poll() is not None:
            helper = self._helper = subprocess.Popen(
                [sys.executable, "-m", _HELPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            threading.Thread(target=self._end_when_idle, name="prices", daemon=True).start()
        return helper

    def _end_when_idle(self) -> None:
        rest_s = _KEEP_S
        while rest_s > 0:
            time.sleep(rest_s)
            with self._lock:
                helper = self._helper
                if helper is None:
                    return
                rest_s = self._used_s + _KEEP_S - time.monotonic()
                if rest_s <= 0:
                    self._helper = None
                    helper.communicate()

    def _load(self) -> None:
        if self._path is None:
            return
        try:
            self._answers = msgspec.json.decode(self._path.read_bytes(), type=dict[str, Prices | None])
        except (OSError, msgspec.MsgspecError):
            self._answers = {}

    def _save(self) -> None:
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._path.with_suffix(".new")
            temporary.write_bytes(msgspec.json.encode(self._answers))
            temporary.replace(self._path)
        except OSError:
            self._path = None  # asked again after a restart


def _release() -> str:
    try:
        return version("genai-prices")
    except PackageNotFoundError:
        return "none"


# ------------------------------------------------------------------------------------------------ the helper process


def _answer(snapshot: Any, provider: str | None, model: str, day: int) -> dict[str, Any] | None:
    found = next(iter(_found(snapshot, provider, model)), None)
    if found is None:
        return None
    noon = datetime.fromtimestamp(day * 86400 + 43200, tz=UTC)
    prices = {
        KEYS[key]: [(0, float(value.base)), *((tier.start, float(tier.price)) for tier in value.tiers)]
        if hasattr(value, "tiers")
        else [(0, float(value))]
        for key, value in found.get_prices(noon).__dict__.items()
        if key in KEYS and value is not None
    }
    return prices or None


def _found(snapshot: Any, provider: str | None, model: str) -> Iterator[Any]:
    """What the provider sells under this name, then what anybody does; with and without a path before the name."""
    names = [model]
    if "/" in model:
        names += [model.partition("/")[2], model.rpartition("/")[2]]
    providers: list[str | None] = [provider, None] if provider else [None]
    if "/" in model:
        providers.append(model.partition("/")[0])
    for candidate in providers:
        for name in names:
            try:
                yield snapshot.find_provider_model(name, None, _ALIASES.get(candidate or "", candidate), None)[1]
            except LookupError:
                continue


def main() -> None:
    try:
        from genai_prices.data_snapshot import get_snapshot

        snapshot = get_snapshot()
    except ImportError:
        snapshot = None
    for line in sys.stdin:
        provider, model, day = json.loads(line)
        answer = _answer(snapshot, provider, model, day) if snapshot is not None else None
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
