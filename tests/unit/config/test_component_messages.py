"""Every message with which a component refuses its options, and the graph refuses to be built."""

from pathlib import Path

import pytest

from spanweir.collector.config import ConfigError, loads
from spanweir.collector.pipeline import build_check


def problem(text: str) -> str:
    with pytest.raises(ConfigError) as raised:
        build_check(loads(text, "f.yaml"))
    return str(raised.value)


def service(rest: str = "", processors: str = "[]", exporters: str = "[debug]") -> str:
    pipeline = f"{{receivers: [otlp], processors: {processors}, exporters: {exporters}}}"
    return f"service: {{pipelines: {{traces: {pipeline}}}{rest}}}\n"


def check(where: str, text: str, message: str) -> None:
    told = problem(text)
    assert told.startswith(f"f.yaml:1: {where}"), told
    assert message in told
    assert len(told.splitlines()) == 1, told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("protocols: {}", "name at least one of grpc and http"),
        ("protocols: {grpc: {endpoint: localhost}}", "endpoint must be host:port such as 127.0.0.1:4317"),
        (
            "protocols: {grpc: {endpoint: 'http://0.0.0.0:4317/v1'}}",
            "endpoint is a place to listen on, host:port such as 0.0.0.0:4317, not the URL 'http://0.0.0.0:4317/v1'",
        ),
        ("protocols: {http: {endpoint: 'a:70000'}}", "endpoint must be host:port such as 127.0.0.1:4317"),
        ("protocols: {grpc: {max_recv_msg_size_mib: 0}}", "max_recv_msg_size_mib must be 1 to 2047, not 0"),
        ("protocols: {grpc: {workers: 0}}", "workers must be 1 to 1000, not 0"),
        ("protocols: {grpc: {max_concurrent_streams: 0}}", "max_concurrent_streams must be at least 1"),
        ("protocols: {http: {max_request_body_size: 0}}", "max_request_body_size must be at least 1 byte"),
        ("protocols: {http: {logs_url_path: /v1/traces}}", "metrics_url_path must differ"),
        ("protocols: {http: {logs_url_path: logs}}", "a URL path begins with /: 'logs'"),
        ("protocols: {grpc: {tls: {cert_file: c.pem}}}", "tls.key_file: is missing and has no default"),
        ("protocols: {grpc: {tls: {cert_file: /no/c, key_file: /no/k}}}", "grpc: tls.cert_file /no/c: No such file"),
        ("protocols: {http: {tls: {cert_file: /no/c, key_file: /no/k}}}", "http: tls.cert_file /no/c: No such file"),
        ("auth: {client_certificate: true}", "auth.client_certificate needs protocols.grpc.tls.client_ca_file"),
        ("auth: {bearer: {a: ''}}", "bearer.a is empty; everybody would be a"),
        ("auth: {bearer: {a: t, b: t}}", "two tenants have the same bearer token; each needs its own"),
    ],
)
def test_receivers(options: str, message: str) -> None:
    text = f"receivers: {{otlp: {{{options}}}}}\nexporters: {{debug: }}\n{service()}"
    check("receivers.otlp", text, message)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("probabilistic_sampler", "sampling_percentage: 101", "sampling_percentage must be 0 to 100, not 101"),
        ("routing", "rules: [{}]", "give one of header, attribute, template, experiment, not none"),
        ("routing", "rules: [{header: a, attribute: b}]", "template, experiment, not header and attribute"),
        ("genai", "conventions: [otel]", "no convention 'otel'; there are: "),
        ("genai", "coding_agents: some", "coding_agents is 'some'; it can be turns, internal or off"),
        ("cost", "prices: [{model: m, input: -1}]", "prices of 'm' must be zero or more"),
        ("filter", "drop: [{}]", "an empty rule would drop every span; give name, scope, kind, attributes or genai"),
        ("filter", "drop: [{kind: loud}]", "kind must be one of unspecified, internal, "),
        ("filter", "drop: [{name: '('}]", "'(' is no regular expression: "),
        ("attributes", "actions: [{action: insert}]", "action insert needs a key"),
        ("attributes", "actions: [{action: insert, key: k}]", "insert of 'k' needs either value or from_attribute"),
        ("attributes", "actions: [{action: extract, key: k}]", "action extract of 'k' needs a pattern"),
        ("attributes", "actions: [{action: extract, key: k, pattern: '('}]", "'(' is no RE2 pattern: missing ): ("),
        ("attributes", "actions: [{action: convert, key: k}]", "needs converted_type: int, double or string"),
        ("resource", "attributes: [{action: insert}]", "action insert needs a key"),
        ("tail_sampling", "policies: [{name: p, type: string_attribute}]", "policy 'p' needs string_attribute.key"),
        ("redaction", "blocked_values: ['']", "blocked_values: an empty pattern would match everything"),
        ("redaction", "blocked_values: ['(']", "blocked_values: '(' is no RE2 pattern: missing ): ("),
    ],
)
def test_processors(name: str, options: str, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    components = f"receivers: {{otlp: }}\nexporters: {{debug: }}\n{service(processors=f'[{name}]')}"
    check(f"processors.{name}", f"processors: {{{name}: {{{options}}}}}\n{components}", message)
    assert capfd.readouterr().err == "", "nothing is printed beside the message"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("file", "path: ''", "path must name a file, not ''"),
        ("file", "rotation: {max_days: -1}", "rotation: numbers must be zero or more"),
        ("mlflow", "tracking_uri: 'oracle://db'", "tracking_uri 'oracle' is not supported; use sqlite:///mlflow.db"),
        ("mlflow", "tracking_uri: 'sqlite://'", "names no SQLite file; write sqlite:///mlflow.db"),
        ("mlflow", "connections: 0", "connections must be at least 1"),
        ("mlflow", "experiment: ''", "experiment must name an experiment, for example Default"),
        ("mlflow", "experiment: '{service.name}'", "processor routing: {rules: [{template: '{service.name}'}]}"),
        ("delta", "path: ''", "path must name a directory or a URI"),
        ("delta", "prefix: 'a b'", "prefix must be letters, digits, `_` and `-`, not 'a b'"),
        ("delta", "tables: []", "tables must name at least one of payload, spans, logs, metrics, annotations"),
        ("delta", "tables: [trace]", "must be one of payload, spans, logs, metrics, annotations, not the text 'trace'"),
        ("delta", "commit_rows: 0", "commit_rows must be at least 1, not 0"),
        ("delta", "late_days: 0", "late_days must be at least 1, not 0"),
        ("delta", "compact_files: 1", "compact_files must be at least 2, not 1"),
        ("delta", "compression: snappy, compression_level: 3", "compression snappy has no compression_level"),
        ("delta", "compression: gzip, compression_level: 10", "compression_level of gzip is 0 to 9, not 10"),
        ("otlp_grpc", "", "endpoint is missing; write the destination's host:port, such as tempo:4317"),
        ("otlp_grpc", "endpoint: 'a:1', max_in_flight: 0", "max_in_flight must be at least 1, not 0"),
        ("otlp_grpc", "endpoint: 'a:1', tls: {cert_file: c}", "tls: cert_file and key_file go together"),
        ("otlp_grpc", "endpoint: 'a:1', tls: {ca_file: /no/ca}", "tls.ca_file '/no/ca' cannot be read: No such file"),
        ("otlp_http", "", "endpoint is missing; write the destination's URL, such as http://tempo:4318"),
        ("otlp_http", "endpoint: 'a:1'", "'a:1' is not a URL; begin with http:// or https://"),
        ("otlp_http", "endpoint: 'http://a', tls: {key_file: k}", "tls: cert_file and key_file go together"),
        ("otlp_grpc", "endpoint: 'a:1', timeout: -1", "a duration must be zero or more seconds, not -1"),
    ],
)
def test_exporters(name: str, options: str, message: str) -> None:
    text = f"exporters: {{{name}: {{{options}}}}}\nreceivers: {{otlp: }}\n{service(exporters=f'[{name}]')}"
    check(f"exporters.{name}", text, message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("type: 3", "must be one of disk, kafka, memory"),
        ("directory: ''", "directory must name a directory"),
        ("max_bytes: 1KiB", "max_bytes must be at least 1MiB, not 1KiB"),
        ("max_bytes: -1", "a size cannot be negative: -1"),
        ("segment_bytes: 1KiB", "segment_bytes must be at least 4KiB, not 1KiB"),
        ("type: kafka, brokers: []", "brokers must name at least one host:port"),
        ("type: kafka, topic: ''", "topic and group must not be empty"),
        ("type: kafka, partition: -1", "partition must be zero or more, not -1"),
    ],
)
def test_queues(options: str, message: str) -> None:
    text = service(f", queue: {{{options}}}") + "receivers: {otlp: }\nexporters: {debug: }\n"
    check("service.queue", text, message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("path: health", "path must begin with /, not 'health'"),
        ("endpoint: '13133'", "endpoint must be host:port such as 127.0.0.1:4317, not '13133'"),
    ],
)
def test_extensions(options: str, message: str) -> None:
    components = "receivers: {otlp: }\nexporters: {debug: }\n"
    text = f"extensions: {{health_check: {{{options}}}}}\n{components}{service(', extensions: [health_check]')}"
    check("extensions.health_check", text, message)


def test_the_metrics_endpoint() -> None:
    text = service(", telemetry: {metrics: {endpoint: x}}") + "receivers: {otlp: }\nexporters: {debug: }\n"
    check("service.telemetry.metrics", text, "endpoint must be host:port such as 127.0.0.1:4317, not 'x'")


def test_what_is_not_used_is_not_built(tmp_path: Path) -> None:
    build_check(loads(f"receivers: {{otlp: }}\nexporters: {{debug: , otlp: }}\n{service()}"))
