"""A file of OTLP JSON lines, read back as JSON."""

import json
from pathlib import Path

from spanweir.exporters.file import Config
from tests.support.batches import SpanId


class Bench:
    exactly_once = True
    can_fail = False

    def __init__(self, directory: Path) -> None:
        self.path = directory / "out" / "spans.jsonl"

    @property
    def config(self) -> Config:
        return Config(path=str(self.path))

    def spans(self) -> list[SpanId]:
        return sorted(
            (span["traceId"], span["spanId"])
            for line in self.path.read_text().splitlines()
            for resource in json.loads(line)["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        )

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...
