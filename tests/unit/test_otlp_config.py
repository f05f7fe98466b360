"""The OTLP receiver's options: the OpenTelemetry Collector's shape, and errors that say what would be right."""

import pytest

from spanweir.collector.config import ConfigError, loads
from spanweir.collector.receivers.otlp import Config, Grpc, Http

REST = """
exporters: {debug: {}}
service: {pipelines: {traces: {receivers: [otlp], exporters: [debug]}}}
"""


def config(receiver: str) -> Config:
    one = loads(f"receivers: {{otlp: {receiver}}}\n{REST}").receivers["otlp"].config
    assert isinstance(one, Config)
    return one


def test_only_what_is_named_is_served() -> None:
    both = config("")
    assert isinstance(both.protocols.grpc, Grpc)
    assert isinstance(both.protocols.http, Http)
    one = config("{protocols: {grpc: }}")
    assert one.protocols.grpc == Grpc()
    assert not isinstance(one.protocols.http, Http)


def test_the_collectors_options_are_taken() -> None:
    one = config(
        "{protocols: {grpc: {endpoint: '0.0.0.0:4317', max_recv_msg_size_mib: 8, include_metadata: true,"
        " keepalive: {server_parameters: {max_connection_age: 5m}, enforcement_policy: {min_time: 30s}},"
        " tls: {cert_file: c.pem, key_file: k.pem, client_ca_file: ca.pem}},"
        " http: {endpoint: 'localhost:4318', max_request_body_size: 20MiB, include_metadata: [X-Team],"
        " cors: {allowed_origins: ['https://a.example']}}},"
        " auth: {bearer: {team-a: s3cret}}, limits: {'*': {bytes_per_s: 10MiB}}}"
    )
    assert isinstance(one.protocols.grpc, Grpc)
    assert one.protocols.grpc.keepalive.server_parameters.max_connection_age == 300
    assert isinstance(one.protocols.http, Http)
    assert one.protocols.http.max_request_body_size == 20 << 20
    assert one.limits["*"].bytes_per_s == 10 << 20
    assert "s3cret" not in repr(one)


@pytest.mark.parametrize(
    ("receiver", "message"),
    [
        ("{protocols: {}}", "receivers.otlp.protocols: name at least one of grpc and http"),
        ("{protocols: {grpc: {endpoint: 4317}}}", "receivers.otlp.protocols.grpc.endpoint: must be text"),
        (
            "{protocols: {grpc: {endpoint: localhost}}}",
            "endpoint must be host:port such as 127.0.0.1:4317, not 'localhost'",
        ),
        (
            "{protocols: {grpc: {endpoint: '::1:4317'}}}",
            "an IPv6 address stands in brackets: [::1]:4317, not '::1:4317'",
        ),
        ("{protocols: {http: {endpoint: ':::4318'}}}", "an IPv6 address stands in brackets: [::]:4318"),
        ("{protocols: {grpc: {max_recv_msg_size_mib: 0}}}", "max_recv_msg_size_mib must be 1 to 2047, not 0"),
        ("{protocols: {http: {traces_url_path: traces}}}", "a URL path begins with /: 'traces'"),
        (
            "{protocols: {http: {logs_url_path: /v1/traces}}}",
            "traces_url_path, logs_url_path and metrics_url_path must differ",
        ),
        ("{protocols: {http: {max_request_body_size: 0}}}", "must be at least 1 byte"),
        ("{auth: {client_certificate: true}}", "auth.client_certificate needs protocols.grpc.tls.client_ca_file"),
        ("{auth: {bearer: {a: ''}}}", "bearer.a is empty; everybody would be a"),
        ("{auth: {bearer: {a: x, b: x}}}", "two tenants have the same bearer token; each needs its own"),
        ("{protocol: {}}", "receivers.otlp.protocol: unknown option"),
    ],
)
def test_errors_say_what_would_be_right(receiver: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(receiver)
    assert message in str(caught.value)
