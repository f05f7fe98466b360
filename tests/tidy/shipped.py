"""otel-config.yaml, made from the `Config` structs: every component, every option, its default, its docstring."""

import textwrap
from collections.abc import Iterator
from typing import Any

import msgspec
import yaml

from spanweir.collector.config.components import config_type, known
from spanweir.collector.config.model import Pipeline, Settings
from spanweir.collector.config.options import field_docs, inner_struct, plain_default
from spanweir.collector.config.reference import summary

WIDTH = 110
HEADER = """\
# The configuration that ships with spanweir, in the shape of an OpenTelemetry Collector's: every component, and every
# option with its default. An option that is left out has the default that stands here, so a file of your own needs
# only what differs. `spanweir print-config` shows what is in force; `spanweir validate` says what is wrong.
#
# ${env:NAME}, ${env:NAME:-default} and ${file:path} are replaced; $$ is a dollar sign. A component that no pipeline
# names is not started. Options in comments belong to something that is off by default.
#
# Generated from the option structs: python -m tests.tidy.generate
"""
QUEUE = "disk"
PIPELINES: dict[str, Any] = {
    "traces": {"receivers": ["otlp"], "exporters": ["mlflow", "delta"]},
    "logs": {"receivers": ["otlp"], "exporters": ["mlflow", "delta"]},
    "metrics": {"receivers": ["otlp"], "exporters": ["delta"]},
}


def shipped() -> str:
    lines = [HEADER]
    for kind in ("receivers", "processors", "exporters", "extensions"):
        lines.append(f"{kind}:")
        for name in known(kind):
            config = config_type(kind, name)
            lines += _comment(f"{summary(kind, name)}.", 2)
            lines.append(f"  {name}:" if config.__struct_fields__ else f"  {name}: {{}}")
            lines += _options(config(), 4)
            lines.append("")
        if lines[-1] == f"{kind}:":
            lines[-1:] = [f"{kind}: {{}}", ""]
    return "\n".join([*lines, *_service()]).rstrip() + "\n"


def _service() -> Iterator[str]:
    yield "service:"
    queue = config_type("queue", QUEUE)
    yield from _comment("Where accepted requests are kept until every exporter has them.", 2)
    yield "  queue:"
    yield f"    type: {QUEUE}"
    yield from _options(queue(), 4)
    for name in known("queue"):
        if name != QUEUE:
            yield ""
            yield from _comment(f"Instead of it: {summary('queue', name)}.", 2)
            yield "  # queue:"
            yield f"  #   type: {name}"
            yield from _as_comment(_options(config_type("queue", name)(), 4), 2)
    yield ""
    yield from _options(Settings(), 2)
    yield from _comment("Extensions that are started.", 2)
    yield f"  extensions: {_scalar(['health_check'] if 'health_check' in known('extensions') else [])}"
    yield ""
    docs = field_docs(Pipeline)
    about = " ".join(f"`{name}`: {doc}" for name, doc in docs.items())
    yield from _comment(f"By signal, or `signal/name` for several of one signal. {about}", 2)
    yield "  pipelines:"
    for name, pipeline in PIPELINES.items():
        yield f"    {name}:"
        for key, value in pipeline.items():
            yield f"      {key}: {_scalar(value)}"


def _options(config: msgspec.Struct, indent: int) -> Iterator[str]:
    """The options of `config` as YAML lines, each below its docstring."""
    docs = field_docs(type(config))
    pad = " " * indent
    for field in msgspec.structs.fields(type(config)):
        value = getattr(config, field.name)
        yield from _comment(docs.get(field.name, ""), indent)
        if isinstance(value, msgspec.Struct):
            yield f"{pad}{field.encode_name}:"
            yield from _options(value, indent + 2)
            continue
        if value is not msgspec.UNSET:
            yield f"{pad}{field.encode_name}: {_scalar(plain_default(value))}"
        struct, wrapper = inner_struct(field.type)
        if struct is not None:
            yield f"{pad}# {field.encode_name}:"
            inner: Iterator[str] = _example(struct, indent + (4 if wrapper else 2))
            if wrapper:
                yield f"{pad}#   {wrapper}"
            yield from _as_comment(inner, indent)


def _example(struct: type[msgspec.Struct], indent: int) -> Iterator[str]:
    """The options of a struct that is absent by default; required ones without a value."""
    docs = field_docs(struct)
    pad = " " * indent
    for field in msgspec.structs.fields(struct):
        yield from _comment(docs.get(field.name, ""), indent)
        default = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
        if isinstance(default, msgspec.Struct):
            yield f"{pad}{field.encode_name}:"
            yield from _options(default, indent + 2)
        else:
            shown = "" if default in (msgspec.NODEFAULT, msgspec.UNSET) else f" {_scalar(plain_default(default))}"
            yield f"{pad}{field.encode_name}:{shown}"


def _as_comment(lines: Iterator[str], indent: int) -> Iterator[str]:
    pad = " " * indent
    return (f"{pad}# {line[indent:]}" for line in lines)


def _comment(text: str, indent: int) -> Iterator[str]:
    pad = " " * indent + "# "
    return (pad + line for line in textwrap.wrap(text, WIDTH - indent, break_long_words=False, break_on_hyphens=False))


def _scalar(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True).strip()
    return text.removesuffix("...").strip()
