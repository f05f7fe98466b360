"""otel-config.yaml -> frozen structs. Knows the shape of the file and no component: types are module names."""

from spanweir.collector.config.errors import ConfigError
from spanweir.collector.config.load import default_files, load, loads, shipped
from spanweir.collector.config.model import Component, Configuration, Pipeline, Service, Settings, signal_of

__all__ = [
    "Component",
    "ConfigError",
    "Configuration",
    "Pipeline",
    "Service",
    "Settings",
    "default_files",
    "load",
    "loads",
    "shipped",
    "signal_of",
]
