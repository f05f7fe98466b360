"""Actions on attributes of spans, records and resources; sampling by trace id."""

from typing import Any

import pytest

from spanweir.collector.processors import attributes, probabilistic_sampler, resource
from spanweir.collector.processors._actions import Action
from spanweir.schemas.raw import RawLog, Resource
from tests.support.processing import Bench
from tests.support.spans import span

GIVEN = {"a": "1", "b": 2, "url": "https://example.com/users/42?x=1", "tmp.x": 1, "tmp.y": 2}


@pytest.mark.parametrize(
    ("action", "changes"),
    [
        (Action(key="n", value="x", action="insert"), {"n": "x"}),
        (Action(key="a", value="x", action="insert"), {}),
        (Action(key="n", value="x", action="update"), {}),
        (Action(key="a", value="x", action="update"), {"a": "x"}),
        (Action(key="n", value=5, action="upsert"), {"n": 5}),
        (Action(key="n", from_attribute="b", action="upsert"), {"n": 2}),
        (Action(key="n", from_attribute="nothing", action="upsert"), {}),
        (Action(key="a", action="delete"), {"a": None}),
        (Action(pattern=r"tmp\..*", action="delete"), {"tmp.x": None, "tmp.y": None}),
        (Action(key="a", action="convert", converted_type="int"), {"a": 1}),
        (Action(key="b", action="convert", converted_type="string"), {"b": "2"}),
        (Action(key="url", action="convert", converted_type="int"), {}),
        (Action(key="url", pattern=r"/users/(?P<user>\d+)", action="extract"), {"user": "42"}),
        (
            Action(key="a", action="hash"),
            {"a": "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"},
        ),
    ],
)
def test_actions(action: Action, changes: dict[str, Any]) -> None:
    expected = {key: value for key, value in (GIVEN | changes).items() if value is not None}
    bench = Bench(attributes.Config(actions=(action,)))
    (item,) = bench(span("a", attributes=dict(GIVEN)))
    assert item.raw.attributes == expected
    (record,) = bench.processor.process_logs([RawLog(attributes=dict(GIVEN))])  # type: ignore[attr-defined]
    assert record.attributes == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs a key"),
        ({"key": "a"}, "needs either value or from_attribute"),
        ({"key": "a", "action": "extract"}, "needs a pattern"),
        ({"key": "a", "action": "convert"}, "needs converted_type"),
    ],
)
def test_wrong_actions(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Action(**options)


def test_a_resource_stays_one_object_for_its_spans() -> None:
    shared = Resource(attributes={"service.name": "a"})
    bench = Bench(resource.Config(attributes=(Action(key="env", value="prod"),)))
    one, two = bench(span("a", resource=shared), span("b", resource=shared))
    assert one.raw.resource is two.raw.resource
    assert one.raw.resource.attributes == {"service.name": "a", "env": "prod"}
    assert shared.attributes == {"service.name": "a"}


def test_a_share_of_traces_is_kept_whole() -> None:
    bench = Bench(probabilistic_sampler.Config(sampling_percentage=25))
    spans = [span(name, trace=f"{i * 7919:032x}") for i in range(2000) for name in ("a", "b")]
    kept = [item.raw.trace_id for item in bench(*spans)]
    assert 0.2 < len(kept) / len(spans) < 0.3
    assert all(kept.count(trace_id) == 2 for trace_id in set(kept))
    assert len(bench.dropped) == len(spans) - len(kept)
    again = Bench(probabilistic_sampler.Config(sampling_percentage=25))(*spans)
    assert [item.raw.trace_id for item in again] == kept
    other = Bench(probabilistic_sampler.Config(sampling_percentage=25, hash_seed=1))(*spans)
    assert [item.raw.trace_id for item in other] != kept


@pytest.mark.parametrize(("percentage", "kept"), [(0, 0), (100, 50)])
def test_nothing_and_everything(percentage: float, kept: int) -> None:
    spans = [span("a", trace=f"{i:032x}") for i in range(50)]
    assert len(Bench(probabilistic_sampler.Config(sampling_percentage=percentage))(*spans)) == kept
