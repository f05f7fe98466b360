"""Tables of version 2 for SQL that is written for version 1: what it needs of VARIANT columns, as MAP and text.

DataFusion (in deltalake 1.6) knows a VARIANT as two binary columns. The rows that may matter are decoded batch by batch
into a table in a temporary folder, which the query then reads in place of the real one.
"""

import logging
import re
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec
import orjson
from arro3.core import Field, RecordBatch, RecordBatchReader, Schema

from spanweir.exporters.delta.arrow import Layout
from spanweir.exporters.delta.cells import text
from spanweir.schemas.variant import decode, members

if TYPE_CHECKING:
    from spanweir.exporters.delta.reading import Tables

_LOG: Final = logging.getLogger(__name__)
_MAP: Final = Layout([("column", "MAP<STRING,STRING>")])
_TEXT: Final = Layout([("column", "STRING")])
_SCOPE: Final = "named_struct('name', instrumentation_scope['name']) AS instrumentation_scope"
_COLUMNS: Final = {
    "otel_spans": (
        "attributes",
        "trace_id, parent_span_id, date, service_name, name, start_time_unix_nano, end_time_unix_nano, "
        f"named_struct('code', status['code']) AS status, {_SCOPE}",
    ),
    "otel_annotations": ("value", "target_id, annotation_type, name"),
}
"""By table: the VARIANT column that is unfolded, and the SQL of the others that come along."""


class Need(msgspec.Struct):
    """What a query reads of one table."""

    conditions: list[str] = []
    """SQL; rows for which one of these holds may matter. Without any, all do."""
    plain: list[str] = []
    """As `conditions`; of these rows the VARIANT column does not matter."""
    keys: Collection[str] = ()
    """Members of the VARIANT column that become a MAP. Without any, the column becomes text as a whole."""


_WORD: Final = re.compile(r"(?=.*[A-DF-Za-df-z])[\w ./-]{3,}", re.ASCII)
"""Stands in a text as it is, quoted or not; the letter tells it from numbers, which may be written with an e."""


@contextmanager
def unfolded(tables: "Tables", needs: dict[str, Need]) -> Iterator[dict[str, Any]]:
    """DeltaTables by suffix, for `Tables.query(…, instead=…)`, until the context ends; none for those of version 1."""
    of_version_2 = {suffix: need for suffix, need in needs.items() if tables.version(suffix) == "v2"}
    if not of_version_2:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="spanweir-") as directory:
        yield {suffix: _unfold(tables, suffix, need, f"{directory}/{suffix}") for suffix, need in of_version_2.items()}


def _unfold(tables: "Tables", suffix: str, need: Need, place: str) -> Any:
    from deltalake import DeltaTable, write_deltalake

    column, others = _COLUMNS[suffix]
    wanted = " OR ".join(f"({condition})" for condition in need.conditions) or "TRUE"
    where = " OR ".join([wanted, *(f"({condition})" for condition in need.plain)])
    parts = (f"CASE WHEN {wanted} THEN {column}['{part}'] END AS {part[0]}" for part in ("metadata", "value"))
    sql = f"SELECT {others}, {', '.join(parts)} FROM {suffix} WHERE {where}"
    layout = _MAP if need.keys else _TEXT
    found = tables.stream(sql, suffix)
    fields = [found.schema.field(name) for name in found.schema.names if name not in ("m", "v")]
    schema = Schema([*fields, Field(column, layout.schema.field(0).type)])
    batches = (_replaced(batch, column, layout, need.keys, schema) for batch in found)
    write_deltalake(place, RecordBatchReader.from_batches(schema, batches))
    return DeltaTable(place)


def _replaced(batch: RecordBatch, column: str, layout: Layout, keys: Collection[str], schema: Schema) -> RecordBatch:
    pairs = zip(batch["m"].to_pylist(), batch["v"].to_pylist(), strict=True)
    values: Sequence[Any] = [_texts(m, v, keys) if keys else _whole(m, v) for m, v in pairs]
    arrays = [batch[name] for name in schema.names if name != column]
    return RecordBatch.from_arrays([*arrays, layout.batch([values])[0]], schema=schema)


def _texts(metadata: bytes | None, value: bytes | None, keys: Collection[str]) -> dict[str, str | None]:
    if metadata is None or value is None:
        return {}
    try:
        return {key: text(found) for key, found in members(metadata, value, keys).items()}
    except ValueError as error:
        _LOG.warning("attributes of a span cannot be read: %s", error)
        return {}


def _whole(metadata: bytes | None, value: bytes | None) -> str | None:
    if metadata is None or value is None:
        return None
    try:
        return text(decode(metadata, value))
    except ValueError as error:
        _LOG.warning("the value of an annotation cannot be read: %s", error)
        return None


def key_occurs(key: str) -> str:
    """SQL condition that holds wherever `attributes` has a member of that name, and seldom elsewhere."""
    return _contains("attributes['metadata']", key)


def value_occurs(values: Collection[str]) -> str | None:
    """SQL condition that holds wherever `attributes` has a member of one of these values. None if there is none.

    What is JSON may stand there as a number, an object or a list, of other bytes than its text.
    """
    if any(_is_json(value) for value in values):
        return None
    return " OR ".join(_contains("attributes['value']", value) for value in values)


def like_occurs(pattern: str) -> str | None:
    """As `value_occurs`, of a LIKE pattern: its longest part that a text holds and that no number or JSON sign does."""
    part = max(re.split("[%_]", pattern), key=len)
    if not _WORD.fullmatch(part) or any(part in word for word in ("true", "false", "null")):
        return None
    places = ("attributes['value']", "attributes['metadata']")  # members' names stand in the latter
    return f"({' OR '.join(_contains(place, part) for place in places)})"


def _contains(column: str, part: str) -> str:
    return f"encode({column}, 'hex') LIKE '%{part.encode('utf-8', 'replace').hex()}%'"


def _is_json(value: str) -> bool:
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError:
        return False
    return True
