"""One Delta table: opened or created, checked, appended to and merged into. delta-rs does the work.

Not here: which rows (`rows`, `payload`, `metrics`), when (`exporter`), and table care (`care`).
"""

import fcntl
import json
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

from arro3.core import RecordBatch
from arro3.core import Table as ArrowTable
from deltalake import (
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Schema,
    Transaction,
    WriterProperties,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.schema import Field as DeltaField
from deltalake.transaction import AddAction, RemoveAction

from spanweir.exporters.api import Permanent, Retry
from spanweir.exporters.delta.arrow import Layout, delta_fields
from spanweir.exporters.delta.blobs import sync
from spanweir.exporters.delta.errors import explained, later, said
from spanweir.exporters.delta.files import Files
from spanweir.exporters.delta.unity import Place, place
from spanweir.schemas.inference_table import ATTRIBUTES, MAPPED, Table

_LOG: Final = logging.getLogger(__name__)
_EPOCH: Final = date(1970, 1, 1).toordinal()
_EPOCH_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ATTEMPTS: Final = 20
_NO_HOOKS: Final = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
COMPACT: Final = WriterProperties(compression="ZSTD", compression_level=3)


class Target:
    """A table at its place. Used by one thread, except `open_again` and `checkpoint`."""

    def __init__(
        self,
        spec: Table,
        uri: str,
        *,
        storage_options: Mapping[str, str],
        app_id: str,
        properties: Mapping[str, str],
        compression: str,
    ) -> None:
        self.spec, self.uri = spec, uri
        self.layout = Layout(spec.columns)
        self._options = dict(storage_options)
        self._app_id = app_id
        self._properties = {**properties, **spec.properties}
        self._files = Files(spec, uri, storage_options, compression)
        self._table: DeltaTable | None = None
        self._place = Place(uri, self._options, float("inf"))
        self._lock = None if "://" in uri else Path(uri) / "_spanweir.lock"
        self._before = 0
        """What `written` was before the last commit was tried."""
        self.commits = 0
        self._checkpointed = False

    @property
    def table(self) -> DeltaTable:
        if self._table is None or not self._place.current:
            self._table = self.open_again()
        return self._table

    def newest(self) -> DeltaTable:
        """The table as it stands now. Raises what deltalake raises."""
        try:
            self.table.update_incremental()
        except DeltaError:
            self._table = self.open_again()  # entries of the log since then may be cleaned away
        return self.table

    def open_again(self) -> DeltaTable:
        """A handle of its own for another thread. Raises what deltalake raises."""
        self._place = place(self.uri, self._options)
        return DeltaTable(self._place.uri, storage_options=self._place.options)

    def checkpoint(self) -> None:
        """Write a checkpoint of the log, and open the table from it before the next commit.

        A handle goes through all of the log since the checkpoint that it was opened from with every commit, twice: it
        costs 0.4 ms for each commit in it (deltalake 1.6). Raises what deltalake raises.
        """
        table = self.open_again()
        table.create_checkpoint()
        table.cleanup_metadata()
        self._checkpointed = True

    def open(self) -> None:
        """Open or create, then check the columns. Raises `Permanent` for what no retry can heal, else `Retry`."""
        try:
            self._table = self._open_or_create()
        except (Permanent, Retry):
            raise
        except (DeltaError, OSError, ValueError) as error:
            raise explained(self.uri, error) from error
        self._check_columns(self._table)
        self._check_attributes(self._table)

    def _open_or_create(self) -> DeltaTable:
        directory = None if "://" in self.uri else Path(self.uri)
        if directory is not None and directory.exists() and not directory.is_dir():
            raise Permanent(f"{self.uri} is a file; the table needs a directory of its own")
        try:
            return self.open_again()
        except TableNotFoundError:
            pass
        names = {path.name for path in directory.iterdir()} if directory is not None and directory.is_dir() else set()
        if names and "_delta_log" not in names:
            raise Permanent(
                f"{self.uri} is a directory with files in it but no Delta table (it has no _delta_log); "
                "name another path or prefix, or move the files away"
            )
        schema = Schema.from_json(json.dumps({"type": "struct", "fields": delta_fields(self.layout.columns)}))
        with suppress(CommitFailedError):  # another process made it in the meantime
            DeltaTable.create(
                self._place.uri,
                schema,
                mode="ignore",
                partition_by=[self.spec.partition] if self.spec.partition else None,
                configuration=self._properties,
                storage_options=self._place.options,
                raise_if_key_not_exists=False,
            )
        return self.open_again()

    def _check_columns(self, table: DeltaTable) -> None:
        """Columns are only ever added: one that is missing is, one of another type is an error."""
        there = {field["name"]: field for field in json.loads(table.schema().to_json())["fields"]}
        wanted = delta_fields(self.layout.columns)
        missing = []
        for field in wanted:
            found = there.get(field["name"])
            if found is None:
                missing.append(field)
            elif not _same(found["type"], field["type"]):
                version = table.metadata().configuration.get("otel.schemaVersion")
                hint = f" (the table says otel.schemaVersion={version})" if version else ""
                raise Permanent(
                    f"{self.uri}: column {field['name']} is {_show(found['type'])}, not {_show(field['type'])}{hint}; "
                    "set schema_version to what the table has, or name another path or prefix"
                )
        ours = {field["name"] for field in wanted}
        required = [name for name, field in there.items() if name not in ours and not field["nullable"]]
        if required or len(missing) == len(wanted):
            raise Permanent(
                f"{self.uri} is a Delta table of other columns ({', '.join(list(there)[:6])}, …), "
                f"not a {self.spec.suffix} table; name another path or prefix"
            )
        if missing:
            _LOG.info("%s: adding columns %s", self.uri, ", ".join(field["name"] for field in missing))
            table.alter.add_columns([DeltaField.from_json(json.dumps(field)) for field in missing])

    def _check_attributes(self, table: DeltaTable) -> None:
        there = table.metadata().configuration.get(ATTRIBUTES, MAPPED)
        if there != self.spec.properties.get(ATTRIBUTES, MAPPED):
            raise Permanent(
                f"{self.uri}: the table says {ATTRIBUTES}={there}; set attributes: {there} in the exporter's options, "
                "or name another path or prefix"
            )

    def written(self) -> int:
        """The newest sequence number whose rows may be in the table; 0 for none."""
        return self.table.transaction_version(self._app_id) or 0

    def write(self, batches: Sequence[RecordBatch], days: Iterable[int]) -> list[AddAction]:
        """Write files for `append` to commit; until then they are no part of the table. Raises `Retry`.

        `days` occur in the partition column of the batches.
        """
        try:
            return self._files.write(batches, sorted(set(days)))
        except Permanent:
            raise
        except Exception as error:  # obstore's errors have no base in common with the others
            raise later(self.uri, error) from error

    def append(self, actions: Sequence[AddAction], last: int) -> None:
        """Commit files. Raises `Retry`; then they may have been committed or not: `has` tells."""

        def commit() -> None:
            table = self.table
            table.create_write_transaction(
                list(actions),
                mode="append",
                schema=table.schema(),
                partition_by=table.metadata().partition_columns,
                commit_properties=self._properties_of_commit(last),
                post_commithook_properties=_NO_HOOKS,
            )
            self.newest()

        self._commit_again(commit)

    def has(self, actions: Sequence[AddAction], last: int) -> bool:
        """Whether the files of an `append` that failed are in the table all the same. Raises `Retry`."""
        self._table = None
        try:
            there = set(self.table.get_add_actions()["path"].to_pylist())
            return any(action.path in there for action in actions) or self.written() >= last > self._before
        except (DeltaError, OSError, ValueError) as error:
            raise later(self.uri, error) from error

    def merge(
        self, batches: Sequence[RecordBatch], last: int, days: Iterable[int], times: tuple[int, int] | None = None
    ) -> None:
        """Update rows by key, insert those that are not there; no key may occur twice in the batches.

        `days` are those in whose partitions the rows may stand, `times` their first and last time (ns), which prunes
        better. Raises `Retry`. Doing it twice is harmless.
        """
        conditions = [f"t.{key} = s.{key}" for key in self.spec.key]
        if times is not None:
            conditions += within(self.spec, "t.", times)
        elif self.spec.partition:
            dates = ", ".join(f"DATE '{date.fromordinal(_EPOCH + day)}'" for day in sorted(set(days)))
            conditions.append(f"t.{self.spec.partition} IN ({dates})")
        predicate = " AND ".join(conditions)
        source = ArrowTable.from_batches(batches, schema=self.layout.schema)

        def commit() -> None:
            (
                self.table.merge(
                    source,
                    predicate,
                    source_alias="s",
                    target_alias="t",
                    writer_properties=COMPACT,
                    commit_properties=self._properties_of_commit(last),
                    post_commithook_properties=_NO_HOOKS,
                )
                .when_matched_update({name: f"s.{name}" for name in self.layout.names})
                .when_not_matched_insert({name: f"s.{name}" for name in self.layout.names})
                .execute()
            )

        with self.alone():
            self._refresh()
            self._commit_again(commit)

    def delete(self, conditions: Iterable[str], last: int) -> None:
        """Delete rows for which one of the SQL conditions holds. Raises `Retry`. Doing it twice is harmless."""
        predicate = " OR ".join(f"({condition})" for condition in conditions)

        def commit() -> None:
            self.table.delete(
                predicate,
                writer_properties=COMPACT,
                commit_properties=self._properties_of_commit(last),
                post_commithook_properties=_NO_HOOKS,
            )

        with self.alone():
            self._refresh()
            self._commit_again(commit)

    def compact(self, partition: dict[str, str | None], paths: Sequence[str]) -> int:
        """Put files of one partition together; how many, 0 if none fit together or another writer was first.

        The commit is made onto exactly the version in which all of the files were seen to stand. Left to delta-rs, a
        commit that changes no data is not checked against files that others removed meanwhile, and `optimize.compact`
        of two processes, or of one beside a merge, leaves rows twice (deltalake 1.6).
        """
        rewritten = self._files.rewrite(paths, partition)
        if rewritten is None:
            return 0
        add, replaced = rewritten
        now_ms = int(time.time() * 1000)
        actions = [add, *(RemoveAction(path, False, now_ms, partition_values=partition) for path in replaced)]
        for attempt in range(_ATTEMPTS):
            table = self._table = self.open_again()
            if not set(replaced) <= set(table.get_add_actions()["path"].to_pylist()):
                return 0
            try:
                table.create_write_transaction(
                    actions,
                    mode="append",
                    schema=table.schema(),
                    partition_by=table.metadata().partition_columns,
                    commit_properties=CommitProperties(max_commit_retries=0),
                    post_commithook_properties=_NO_HOOKS,
                )
            except CommitFailedError:
                time.sleep(random.uniform(0, 0.02) * (attempt + 1))
            else:
                self.newest()
                return len(replaced)
        return 0

    def _refresh(self) -> None:
        try:
            self.newest()
        except (DeltaError, OSError, ValueError) as error:
            self._table = None
            raise later(self.uri, error) from error

    def _commit_again(self, commit: Callable[[], None]) -> None:
        """Commit, and start again from the newest version while another writer's commit stands in the way."""
        if self._checkpointed:
            self._checkpointed, self._table = False, None
        for attempt in range(_ATTEMPTS):
            try:
                return self._commit(commit)
            except Conflict:
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(random.uniform(0.5, 1) * min(0.02 * 1.5**attempt, 5))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes of this machine from rewriting files of the table meanwhile.

        Rewrites exclude each other in any case (one of two is refused and starts again); waiting costs less. In an
        object store there is nothing to wait for, and starting again has to do.
        """
        if self._lock is None:
            yield
            return
        with self._lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _properties_of_commit(self, last: int) -> CommitProperties:
        self._before = self.written()
        transaction = Transaction(self._app_id, max(last, self._before))
        return CommitProperties(max_commit_retries=100, app_transactions=[transaction])

    def _commit(self, commit: Callable[[], None]) -> None:
        try:
            commit()
        except CommitFailedError as error:
            self._table = None
            raise Conflict(f"{self.uri}: {said(error)}") from error
        except (DeltaError, OSError, ValueError) as error:
            self._table = None
            raise later(self.uri, error) from error
        self.commits += 1
        if "://" not in self.uri:
            sync(Path(self.uri) / "_delta_log")


def within(spec: Table, alias: str, times: tuple[int, int]) -> list[str]:
    """SQL conditions on partition and time that prune files: rows from the first to the last of `times` (ns)."""
    first, last = (_EPOCH_TIME + timedelta(microseconds=time // 1000) for time in times)
    conditions = [f"{alias}{spec.time} >= '{first.isoformat()}'", f"{alias}{spec.time} <= '{last.isoformat()}'"]
    if spec.partition:
        conditions += [
            f"{alias}{spec.partition} >= DATE '{first.date()}'", f"{alias}{spec.partition} <= DATE '{last.date()}'",
        ]  # fmt: skip
    return conditions


class Conflict(Retry):
    """Another writer committed first, in a way that this commit cannot be put after it."""


def _same(found: object, wanted: object) -> bool:
    """Same type; nullability and metadata of nested fields aside, and fields that were added to a struct."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        if found.get("type") != wanted.get("type"):
            return False
        if wanted["type"] == "struct":
            there = {field["name"]: field["type"] for field in found["fields"]}
            return [f["name"] for f in found["fields"]] == [f["name"] for f in wanted["fields"]] and all(
                _same(there[field["name"]], field["type"]) for field in wanted["fields"]
            )
        return all(
            _same(found[part], wanted[part]) for part in ("keyType", "valueType", "elementType") if part in wanted
        )
    return found == wanted


def _show(kind: object) -> str:
    return kind.upper() if isinstance(kind, str) else str(kind["type"]).upper() if isinstance(kind, dict) else "?"
