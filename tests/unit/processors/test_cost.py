"""Prices of the library and of the user; cache tiers; what is unknown."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spanweir.collector.processors import _prices, cost
from spanweir.collector.processors._prices import PriceBook, Prices
from spanweir.schemas.genai import Costs, Usage
from spanweir.schemas.raw import RawSpan
from tests.support.processing import Bench
from tests.support.spans import span

OWN = cost.Price(model="house-*", input=2, output=10, cache_read=0.5, cache_write=2.5, cache_write_1h=4)


def call(model: str, provider: str = "openai", tokens: tuple[int, int] = (1_000_000, 0), **attributes: Any) -> RawSpan:
    given = {"gen_ai.request.model": model, "gen_ai.provider.name": provider, **attributes}
    return span("llm", op="chat", tokens=tokens, attributes=given)


def priced(bench: Bench, raw: RawSpan) -> Costs | None:
    (item,) = bench(raw)
    assert item.span is not None
    return item.span.cost


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(cost.Config(), str(tmp_path_factory.mktemp("prices")))


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gpt-4o-mini", "openai"),
        ("gpt-4o-mini-2024-07-18", "openai"),
        ("openai/gpt-4o-mini", "openai"),
        ("gpt-4o-mini", "a-gateway-nobody-knows"),
        ("claude-3-5-sonnet-20241022", "anthropic"),
        ("anthropic.claude-3-5-sonnet-20240620-v1:0", "aws.bedrock"),
        ("gemini-2.0-flash", "gcp.vertex_ai"),
        ("gemini-2.0-flash", "gcp.gemini"),
        ("gpt-4o-2024-08-06", "azure.ai.openai"),
        ("grok-3", "x_ai"),
        ("mistral-large-latest", "mistral_ai"),
        ("command-r", "cohere"),
    ],
)
def test_models_as_senders_name_them(library: Bench, model: str, provider: str) -> None:
    found = priced(library, call(model, provider))
    assert found is not None, "there is a price"
    assert found.computed
    assert found.total is not None
    assert 0 < found.total < 100


def test_the_librarys_own_sum(library: Bench) -> None:
    """The same tokens by genai-prices itself."""
    code = (
        "from genai_prices import calc_price, Usage\n"
        "u = Usage(input_tokens=1000, cache_read_tokens=400, cache_write_tokens=100, output_tokens=200)\n"
        "print(calc_price(u, model_ref='claude-3-5-sonnet-20241022', provider_id='anthropic').total_price)\n"
    )
    expected = float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    cached = {"gen_ai.usage.cache_read.input_tokens": 400, "gen_ai.usage.cache_write.input_tokens": 100}
    raw = call("claude-3-5-sonnet-20241022", "anthropic", (1000, 200), **cached)
    found = priced(library, raw)
    assert found is not None
    assert found.total == pytest.approx(expected, rel=1e-9)


def test_an_unknown_model_has_no_cost_and_is_counted(library: Bench) -> None:
    assert priced(library, call("my-own-finetune-7b", "me")) is None
    assert library.counted["spanweir_cost_unknown_models"] == 1


def test_a_provider_by_another_name(tmp_path: Path) -> None:
    raw = call("gemma2-9b-it", "house-gateway")
    assert priced(Bench(cost.Config(), str(tmp_path)), raw) is None, "its price is known under its provider only"
    aliased = Bench(cost.Config(provider_aliases={"house-gateway": "groq"}), str(tmp_path))
    found, of_groq = priced(aliased, raw), priced(aliased, call("gemma2-9b-it", "groq"))
    assert found is not None
    assert found == of_groq


def test_a_reported_cost_wins(library: Bench) -> None:
    found = priced(library, call("gpt-4o-mini", "openai", **{"gen_ai.usage.cost": 0.5}))
    assert found is not None
    assert (found.total, found.computed) == (0.5, False)


def test_agents_sums_are_not_priced(library: Bench) -> None:
    raw = span("agent", op="invoke_agent", tokens=(10, 10), attributes={"gen_ai.request.model": "gpt-4o-mini"})
    assert priced(library, raw) is None


def test_own_prices_win_and_a_cache_has_its_own() -> None:
    bench = Bench(cost.Config(prices=(OWN,), library=False))
    cached = {"gen_ai.usage.cache_read.input_tokens": 400_000, "gen_ai.usage.cache_write.input_tokens": 100_000}
    found = priced(bench, call("House-Large", tokens=(1_000_000, 100_000), **cached))
    assert found is not None
    assert (found.input, found.output) == (pytest.approx(0.5 * 2 + 0.4 * 0.5 + 0.1 * 2.5), pytest.approx(1.0))


def test_tiers_apply_to_all_tokens_of_a_call() -> None:
    prices = Prices(input=[(0, 1.0), (200_000, 2.0)], output=[(0, 5.0), (200_000, 7.0)])
    assert cost.cost_of(Usage(input=200_000, output=100_000), prices) == (pytest.approx(0.2), pytest.approx(0.5))
    assert cost.cost_of(Usage(input=300_000, output=100_000), prices) == (pytest.approx(0.6), pytest.approx(0.7))


@pytest.mark.parametrize("usage", [Usage(), Usage(input=-5, output=-1), Usage(input=10, cache_read=99, cache_write=99)])
def test_odd_counts_never_give_a_negative_cost(usage: Usage) -> None:
    prices = Prices(input=[(0, 1.0)], output=[(0, 1.0)], cache_read=[(0, 0.1)], cache_write=[(0, 2.0)])
    assert all(amount >= 0 for amount in cost.cost_of(usage, prices))


def test_no_price_is_asked_for_over_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a Python whose sockets cannot be made, in the library's process too."""
    guard = """
import sys
def refuse(event, args):
    if event.startswith("socket."):
        sys.exit(f"{event} {args}")
sys.addaudithook(refuse)
"""
    (tmp_path / "sitecustomize.py").write_text(guard)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    program = [sys.executable, "-c", "import socket; socket.socket()"]
    assert subprocess.run(program, capture_output=True).returncode == 1, "the guard guards"
    book = PriceBook(str(tmp_path))
    assert book.find("openai", "gpt-4o-mini", 1_795_000_000_000_000_000) is not None
    assert book.find("nobody", "my-own-finetune-7b", 1_795_000_000_000_000_000) is None


def test_answers_are_remembered_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = PriceBook(str(tmp_path)).find("openai", "gpt-4o-mini", 1_795_000_000_000_000_000)
    assert first is not None
    monkeypatch.setattr(sys, "executable", "/nowhere")
    assert PriceBook(str(tmp_path)).find("openai", "gpt-4o-mini", 1_795_000_000_000_000_000) == first


def test_the_delivery_process_does_not_load_the_library() -> None:
    code = (
        "import sys, spanweir.collector.child; print(sorted({'pydantic', 'genai_prices', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


NOW_NS = 1_795_000_000_000_000_000
DAY_NS = 86_400_000_000_000


def test_a_full_price_book_forgets_the_past_and_not_the_present(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_prices, "_BOOK_MAX", 4)
    book = PriceBook("")
    for day in range(10):
        assert book.find("openai", "gpt-4o-mini", NOW_NS + day * DAY_NS) is not None
        assert len(book._answers) <= 4


@pytest.mark.parametrize(
    ("broken", "name", "value"), [(_prices, "_HELPER", "no.such"), (sys, "executable", "/no/such")]
)
def test_no_answer_is_not_remembered_as_no_price(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    broken: Any,
    name: str,
    value: str,
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(broken, name, value)
        book = PriceBook(str(tmp_path))
        assert book.find("openai", "gpt-4o-mini", NOW_NS) is None
        assert book.find("openai", "gpt-4o", NOW_NS) is None
    assert caplog.text.count("the price library gave no answer") == 1
    assert PriceBook(str(tmp_path)).find("openai", "gpt-4o-mini", NOW_NS) is not None
