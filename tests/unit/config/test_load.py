"""From a document to a `Configuration`, and every message that a user can meet on the way."""

import json
import pickle
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from spanweir.collector.config import ConfigError, components, load, loads
from spanweir.collector.config.components import MissingExtra, extra_of
from spanweir.collector.config.show import effective
from spanweir.collector.masking import MASK, mask
from spanweir.exporters.file import Config as FileConfig
from spanweir.schemas.options import MIB, Secret

BASE = """
receivers:
  otlp:
exporters:
  otlp: {endpoint: "tempo:4317", headers: {authorization: "Bearer hunter2"}, timeout: 3s}
  file/audit: {path: out.jsonl}
  debug:
service:
  queue: {type: disk, directory: ./q, max_bytes: 64MiB}
  pipelines:
    traces: {receivers: [otlp], exporters: [otlp, file/audit]}
    logs/eu: {receivers: [otlp], exporters: [otlp]}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        loads(text, "f.yaml")
    return list(raised.value.problems)


def with_service(components: str, pipeline: str = "{receivers: [otlp], exporters: [debug]}") -> str:
    return f"receivers: {{otlp: }}\n{components}\nservice: {{pipelines: {{traces: {pipeline}}}}}\n"


def test_a_configuration() -> None:
    configuration = loads(BASE)
    otlp = configuration.exporters["otlp"]
    assert (otlp.type, otlp.id, otlp.path) == ("otlp_grpc", "otlp", "otel-config.yaml:5: exporters.otlp")
    assert otlp.config.headers["authorization"].reveal() == "Bearer hunter2"
    assert otlp.config.timeout == 3
    assert configuration.exporters["file/audit"].config == FileConfig(path="out.jsonl")
    assert configuration.service.queue.type == "disk"
    assert configuration.service.queue.config.max_bytes == 64 * MIB
    assert configuration.service.pipelines["traces"].exporters == ("otlp", "file/audit")
    assert list(configuration.used("exporters")) == ["otlp", "file/audit"], "debug is not used"
    assert list(configuration.used("receivers")) == ["otlp"]
    assert configuration.service.settings.telemetry.metrics.endpoint == "127.0.0.1:8888"


def test_a_configuration_goes_to_another_process() -> None:
    configuration = loads(BASE)
    assert pickle.loads(pickle.dumps(configuration)) == configuration


def test_the_old_names_of_the_otlp_exporters() -> None:
    text = with_service(
        "exporters: {otlphttp/x: {endpoint: 'http://t:4318'}}", "{receivers: [otlp], exporters: [otlphttp/x]}"
    )
    assert loads(text).exporters["otlphttp/x"].type == "otlp_http"


def test_a_substituted_value_stays_text_where_text_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBER", "007")
    text = with_service(
        "exporters: {debug: {max_traces: '${env:NUMBER}'}, file: {path: '${env:NUMBER}', fsync: '${env:F:-false}'},"
        " otlp: {endpoint: x, headers: {k: '${env:NUMBER}'}, timeout: '${env:T:-2s}', compression: '${env:C:-none}'}}"
    )
    configuration = loads(text)
    assert configuration.exporters["debug"].config.max_traces == 7
    assert configuration.exporters["file"].config == FileConfig(path="007", fsync=False)
    otlp = configuration.exporters["otlp"].config
    assert (otlp.headers["k"].reveal(), otlp.timeout, otlp.compression) == ("007", 2, "none")


def test_a_whole_section_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "exporters.yaml").write_text("debug: {verbosity: basic}\n")
    text = with_service(f"exporters: ${{file:{tmp_path}/exporters.yaml}}")
    assert loads(text).exporters["debug"].config.verbosity == "basic"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            with_service("exporters: {debgu: {}, debug: }"),
            "f.yaml:2: exporters.debgu: no exporter 'debgu'; did you mean 'debug'? there are: ",
        ),
        (
            with_service("exporters: {_otlp: {}, debug: }"),
            "f.yaml:2: exporters._otlp: no exporter '_otlp'; ",
        ),
        (
            with_service("exporters: {api: {}, debug: }"),
            "f.yaml:2: exporters.api: no exporter 'api'; ",
        ),
        (
            with_service("exporters: {debug: {verbosty: basic}}"),
            "f.yaml:2: exporters.debug.verbosty: unknown option; did you mean 'verbosity'? "
            "options: max_traces, stream, verbosity",
        ),
        (
            with_service("exporters: {debug: , file: {rotation: {max_megabyte: 1}}}"),
            "f.yaml:2: exporters.file.rotation.max_megabyte: unknown option; did you mean 'max_megabytes'? "
            "options: max_backups, max_days, max_megabytes",
        ),
        (
            with_service("exporters: {debug: {max_traces: many}}"),
            "f.yaml:2: exporters.debug.max_traces: must be a whole number, not the text 'many'",
        ),
        (
            with_service("exporters: {debug: {max_traces: 1.5}}"),
            "f.yaml:2: exporters.debug.max_traces: must be a whole number, not the number 1.5",
        ),
        (
            with_service("exporters: {debug: {max_traces: -1}}"),
            "f.yaml:2: exporters.debug: max_traces must be zero or more, not -1",
        ),
        (
            with_service("exporters: {debug: {verbosity: loud}}"),
            "f.yaml:2: exporters.debug.verbosity: must be one of basic, normal, detailed, not the text 'loud'",
        ),
        (
            with_service("exporters: {debug: loud}"),
            "f.yaml:2: exporters.debug: must be a mapping with options (verbosity, max_traces, stream), "
            "not the text 'loud'",
        ),
        (
            with_service("processors: {batch: , genai: }\nexporters: {debug: }"),
            "f.yaml:2: processors.batch: no processor 'batch'; leave it out: spanweir batches by itself, see "
            "service.delivery; there are: ",
        ),
        (
            with_service("exporters: {otlp: {endpoint: x, sending_queue: {}}, debug: }"),
            "f.yaml:2: exporters.otlp.sending_queue: unknown option; leave it out: the queue stands before the "
            "pipelines, see service.queue; options: ",
        ),
        (
            with_service("exporters: {logging: , debug: }"),
            "f.yaml:2: exporters.logging: no exporter 'logging'; it is called debug; there are: ",
        ),
        (
            with_service("exporters: {debug: }", "{receivers: [otlp], processors: [genai], exporters: [debug]}"),
            "f.yaml:3: service.pipelines.traces.processors.0: 'genai' is not defined under processors; write `genai:` "
            "there",
        ),
        (
            with_service("exporters: {debug: , file: {path: 7}}"),
            "f.yaml:2: exporters.file.path: must be text, not the number 7; put it in quotes",
        ),
        (
            with_service("exporters: {debug: , file: {path: }}"),
            'f.yaml:2: exporters.file.path: must be text, not nothing; write "" for an empty one',
        ),
        (
            with_service("exporters: {debug: , file: {path: [a]}}"),
            "f.yaml:2: exporters.file.path: must be text, not a list",
        ),
        (
            with_service("exporters: {debug: , file: {fsync: 'yes'}}"),
            "f.yaml:2: exporters.file.fsync: must be true or false, not the text 'yes'",
        ),
        (
            with_service("exporters: {debug: , otlp: {timeout: soon}}"),
            "f.yaml:2: exporters.otlp.timeout: 'soon' is not a duration; write a number with a unit such as 500ms, "
            "5s, 10m or 1h30m",
        ),
        (
            with_service("exporters: {debug: , otlp: {headers: {a: 1}}}"),
            "f.yaml:2: exporters.otlp.headers.a: must be text, not the number 1; put it in quotes",
        ),
        (
            with_service("exporters: {debug: , otlp: {headers: [a]}}"),
            "f.yaml:2: exporters.otlp.headers: must be a mapping, not a list",
        ),
        (
            with_service("exporters: {debug: }", "{receivers: [otlp], exporters: [debgu]}"),
            "f.yaml:3: service.pipelines.traces.exporters.0: 'debgu' is not defined under exporters; "
            "did you mean 'debug'? defined there: debug",
        ),
        (
            with_service("exporters: {debug: }", "{receivers: [otlp], processors: [x], exporters: [debug]}"),
            "f.yaml:3: service.pipelines.traces.processors.0: 'x' is not defined under processors; defined there: none",
        ),
        (
            with_service("exporters: {debug: }", "{receivers: [otlp], exporters: [debug, debug]}"),
            "f.yaml:3: service.pipelines.traces.exporters.1: 'debug' stands twice in this list; keep one",
        ),
        (
            with_service("exporters: {debug: }", "{receivers: [otlp], exporters: debug}"),
            "f.yaml:3: service.pipelines.traces.exporters: must be a list, not the text 'debug'; write [debug]",
        ),
        (
            with_service("exporters: {debug: }", "{receivers: [otlp], exporter: [debug]}"),
            "f.yaml:3: service.pipelines.traces.exporter: unknown option; did you mean 'exporters'? "
            "options: exporters, processors, receivers",
        ),
        (
            with_service("exporters: {debug: }", "{receivers: [otlp]}"),
            "f.yaml:3: service.pipelines.traces: has no exporters; name at least one of debug",
        ),
        (
            "receivers: {otlp: }\nexporters: {debug: }\nservice: {pipelines: {trace: {}}}",
            "f.yaml:3: service.pipelines.trace: no signal 'trace'; did you mean 'traces'? "
            "there are: logs, metrics, traces",
        ),
        (
            "receivers: {otlp: }\nexporters: {debug: }\nservice: {pipelines: {}}",
            "f.yaml:3: service.pipelines: is empty; add one such as traces: {receivers: [otlp], exporters: [mlflow]}",
        ),
        ("receivers: {otlp: }", "f.yaml: service: is missing; name at least one pipeline under service.pipelines"),
        (
            with_service("exporters: {debug: }") + "connectors: {}\n",
            "f.yaml:4: connectors: unknown key; leave it out: there are none; keys: exporters, extensions, processors, "
            "receivers, service",
        ),
        (
            "exporters: {debug: }\nservice: {pipeline: {}}",
            "f.yaml:2: service.pipeline: unknown key; did you mean 'pipelines'? keys: ",
        ),
        (
            "exporters: {debug: }\nservice: {extensions: [health_chck], pipelines: {}}",
            "f.yaml:2: service.extensions.0: 'health_chck' is not defined under extensions; defined there: none",
        ),
        (
            with_service("exporters: {debug: }") + "extensions: [a]\n",
            "f.yaml:4: extensions: must be a mapping",
        ),
        (
            "exporters: {debug: }\nservice: {queue: {type: dsk}, pipelines: {}}",
            "f.yaml:2: service.queue: no queue type 'dsk'; did you mean 'disk'? there are: disk",
        ),
        (
            "exporters: {debug: }\nservice: {queue: {max_bytes: 10GX}, pipelines: {}}",
            "f.yaml:2: service.queue.max_bytes: '10GX' is not a size; write a number of bytes, or one with a unit such "
            "as 64MiB or 10GB",
        ),
        (
            "exporters: {debug: }\nservice: {shutdown_timeout: fast, pipelines: {}}",
            "f.yaml:2: service.shutdown_timeout: 'fast' is not a duration",
        ),
        (
            "exporters: {debug: }\nservice: {telemetry: {logs: {level: loud}}, pipelines: {}}",
            "f.yaml:2: service.telemetry.logs: level must be debug, info, warning or error, not 'loud'",
        ),
    ],
)
def test_messages(text: str, message: str) -> None:
    assert any(problem.startswith(message) for problem in problems(text)), problems(text)


def test_all_problems_are_told_at_once() -> None:
    text = with_service(
        "exporters: {debug: {max_traces: x, stream: y}, filee: }", "{receivers: [otpl], exporters: [debug]}"
    )
    assert len(problems(text)) == 4


def test_the_file_that_is_wrong_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(with_service("exporters: {debug: {max_traces: 1}}"))
    (tmp_path / "b.yaml").write_text("exporters:\n  debug: {max_traces: x}\n")
    with pytest.raises(ConfigError) as raised:
        load([str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")])
    assert str(raised.value).startswith(f"{tmp_path}/b.yaml:2: exporters.debug.max_traces: ")
    with pytest.raises(ConfigError) as raised:
        load([str(tmp_path / "a.yaml")], ["exporters.debug.max_traces=x"])
    assert str(raised.value).startswith("--set exporters.debug.max_traces: exporters.debug.max_traces: must be")


def test_an_unused_component_is_checked_and_not_used() -> None:
    assert "exporters.file" in problems(with_service("exporters: {debug: , file: {x: 1}}"))[0]
    assert list(loads(with_service("exporters: {debug: , file: }")).used("exporters")) == ["debug"]


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = components.import_module

    def without_file(name: str) -> ModuleType:
        if name == "spanweir.exporters.file":
            raise ModuleNotFoundError("No module named 'deltalake'", name="deltalake.writer")
        return real(name)

    monkeypatch.setattr(components, "import_module", without_file)
    used = with_service("exporters: {file/prod: }", "{receivers: [otlp], exporters: [file/prod]}")
    assert problems(used) == ["f.yaml:2: exporters.file/prod: needs `pip install 'spanweir[delta]'`"]
    assert "file/prod" not in loads(with_service("exporters: {file/prod: , debug: }")).exporters, "unused: allowed"


def test_extras_are_those_of_the_distribution() -> None:
    assert extra_of("deltalake") == "delta"
    assert extra_of("mlflow") == "mlflow"
    assert extra_of("re2") == "collector"
    assert extra_of("confluent_kafka") == "kafka"
    assert extra_of("numpy_of_nobody") == ""
    assert str(MissingExtra("", "numpy_of_nobody")) == "needs `pip install numpy_of_nobody`"


def test_a_third_partys_component(monkeypatch: pytest.MonkeyPatch) -> None:
    point = metadata.EntryPoint(name="audit", value="spanweir.exporters.file", group="spanweir.exporters")
    shadow = metadata.EntryPoint(name="debug", value="spanweir.exporters.file", group="spanweir.exporters")
    real = metadata.entry_points

    def entry_points(**chosen: Any) -> Any:
        return [point, shadow] if chosen == {"group": "spanweir.exporters"} else real(**chosen)

    monkeypatch.setattr(components.metadata, "entry_points", entry_points)
    configuration = loads(with_service("exporters: {audit/x: {path: a.jsonl}, debug: }"))
    assert configuration.exporters["audit/x"].config == FileConfig(path="a.jsonl")
    assert type(configuration.exporters["debug"].config).__module__ == "spanweir.exporters.debug", "built-ins are first"
    assert "audit" in components.known("exporters")


def test_secrets_do_not_leave_in_what_is_shown() -> None:
    configuration = loads(BASE)
    assert "hunter2" not in repr(configuration)
    assert "hunter2" not in str(effective(configuration))
    assert effective(configuration)["exporters"]["otlp"]["headers"] == {"authorization": MASK}
    open_ = effective(configuration, redacted=False)
    assert open_["exporters"]["otlp"]["headers"] == {"authorization": "Bearer hunter2"}
    assert not isinstance(open_["exporters"]["otlp"]["headers"]["authorization"], Secret)


def test_passwords_in_urls_are_masked() -> None:
    assert mask("postgresql://u:p%40ss@db:5432/x?y=1") == f"postgresql://u:{MASK}@db:5432/x?y=1"
    assert mask("sqlite:///a.db") == "sqlite:///a.db"
    assert mask("http://h:4318/a@b") == "http://h:4318/a@b"
    assert mask("mysql://h/d?charset=utf8&password=hunter2#x") == f"mysql://h/d?charset=utf8&password={MASK}#x"
    assert mask("https://h/x?api_key=hunter2&page=2&X-Sig=hunter2") == f"https://h/x?api_key={MASK}&page=2&X-Sig={MASK}"


def test_secrets_of_an_object_store_are_masked_by_their_names() -> None:
    options = "{AWS_SECRET_ACCESS_KEY: hunter2, azure_storage_sas_token: hunter2, AWS_REGION: eu, keyspace: k}"
    exporters = f"exporters: {{delta: {{path: 's3://b/t', storage_options: {options}}}}}"
    shown = effective(loads(with_service(exporters, "{receivers: [otlp], exporters: [delta]}")))
    assert shown["exporters"]["delta"]["storage_options"] == {
        "AWS_SECRET_ACCESS_KEY": MASK, "azure_storage_sas_token": MASK, "AWS_REGION": "eu", "keyspace": "k",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("api_key", "hunter2", MASK),
        ("http.request.header.authorization", "hunter2", MASK),
        ("x-password", 12345, MASK),
        ("note", "sk-abcdefghijklmnopqrstuvwx", MASK),
        ("header", "send Bearer abcdefgh12345678 along", f"send {MASK} along"),
        ("instance", "9f86d081884c7d659a2feaa0c55ad015", MASK),
        ("blob", "aB3dE5fG7hJ9kL1mN3pQ5rS7", MASK),
        ("deployment.environment.name", "production", "production"),
        ("gen_ai.request.model", "gpt-4o-mini-2024-07-18", "gpt-4o-mini-2024-07-18"),
        ("gen_ai.usage.input_tokens", 12, 12),
        ("service.name", "checkout service of the northern region", "checkout service of the northern region"),
        ("enabled", True, True),
    ],
)
def test_literal_values_of_actions_are_masked_where_they_may_be_secrets(key: str, value: object, shown: object) -> None:
    action = json.dumps({"key": key, "value": value})
    text = f"{BASE}processors: {{resource: {{attributes: [{action}]}}}}\n"
    (found,) = effective(loads(text))["processors"]["resource"]["attributes"]
    assert found["value"] == shown
    (found,) = effective(loads(text), redacted=False)["processors"]["resource"]["attributes"]
    assert found["value"] == value


def test_what_is_shown_loads_again_as_the_same() -> None:
    import yaml

    configuration = loads(BASE)
    again = loads(yaml.safe_dump(effective(configuration, redacted=False)))
    assert effective(again, redacted=False) == effective(configuration, redacted=False)
    assert again.exporters["otlp"].config == configuration.exporters["otlp"].config
