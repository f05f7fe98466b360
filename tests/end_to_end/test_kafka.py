"""Two collectors on one Kafka topic behind a load balancer that knows nothing of traces."""

from pathlib import Path

import grpc
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from spanweir.collector.decode.otlp_proto import decode_traces
from spanweir.exporters.encode import spans_request
from tests.benchmarks.load import TRACE_EXPORT, make_requests
from tests.support.kafka import broker
from tests.torture.harness import CONFIG, Collector, check


@pytest.mark.external
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_trace_whose_spans_reach_both_collectors_is_whole_and_stored_once(tmp_path: Path) -> None:
    with broker() as kafka:
        admin = AdminClient({"bootstrap.servers": kafka})
        (created,) = admin.create_topics([NewTopic("spanweir", 2)]).values()
        created.result(30)
        collectors = [started(tmp_path, kafka, number) for number in range(2)]
        sent = [span for body in make_requests(10, traces=10) for span in decode_traces(body)]
        for number, collector in enumerate(collectors):
            mine = sent[number::2]
            with grpc.insecure_channel(collector.endpoint) as channel:
                export = channel.unary_unary(TRACE_EXPORT)
                for start in range(0, len(mine), 50):
                    export(spans_request([(one, one.attributes) for one in mine[start : start + 50]]), timeout=30)
                    if not number and start == 100:
                        assert collector.kill_child()
        for collector in collectors:
            collector.wait_drained()
        for collector in collectors:
            assert collector.stop() == 0
        assert check(tmp_path, {(one.trace_id, one.span_id) for one in sent}) == []


def started(stores: Path, kafka: str, partition: int) -> Collector:
    directory = stores / f"collector-{partition}"
    directory.mkdir()
    queue = f'type: kafka, brokers: ["{kafka}"], partition: {partition}, state_directory'
    config = CONFIG.replace("type: disk, directory", queue)
    for store in ("mlflow.db", "tables"):
        config = config.replace(f"{{directory}}/{store}", f"{stores}/{store}")
    collector = Collector(directory, config)
    collector.start()
    return collector
