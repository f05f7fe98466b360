"""The disk queue against a list: any order of appends, reads, advances, reopenings, crashes and torn writes."""

import os
import queue
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from spanweir.collector.queue import segment
from spanweir.collector.queue.api import QueueFull, Record
from spanweir.collector.queue.disk import Config, DiskWriter
from spanweir.collector.queue.disk_reader import DiskReader
from spanweir.schemas.options import KIB, MIB, Size

NAMES = ("delta", "mlflow/prod")


class QueueModel(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="queue-model-"))
        self.config = Config(
            directory=str(self.directory), max_bytes=Size(MIB), segment_bytes=Size(8 * KIB), fsync="off"
        )
        self.bodies: dict[int, bytes] = {}
        self.cursors = dict.fromkeys(NAMES, 0)
        self.writer = DiskWriter(self.config)
        self.reader = DiskReader(self.config, NAMES)

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            self.writer.close()
            self.reader.close()
            shutil.rmtree(self.directory)

    @rule(sizes=st.lists(st.integers(0, 6000), min_size=1, max_size=5), tenant=st.sampled_from(["", "t"]))
    def append(self, sizes: list[int], tenant: str) -> None:
        results: queue.Queue[int | Exception] = queue.Queue()
        bodies = []
        for size in sizes:
            body = os.urandom(size)
            try:
                self.writer.submit(Record(signal="logs", tenant=tenant, received_ns=1, body=body), results.put)
            except QueueFull:
                assert self.writer.size_bytes() > MIB / 2
                break
            bodies.append(body)
        for body in bodies:
            sequence = results.get(timeout=10)
            assert sequence == max(self.bodies, default=0) + 1
            self.bodies[sequence] = body

    @rule(name=st.sampled_from(NAMES), records=st.integers(1, 20), size=st.integers(1, 30_000))
    def read_and_advance(self, name: str, records: int, size: int) -> None:
        after = self.cursors[name]
        got = self.reader.read(after, records, size, 0)
        expected = sorted(number for number in self.bodies if number > after)[: len(got)]
        assert [one.sequence for one in got] == expected
        assert [one.body for one in got] == [self.bodies[number] for number in expected]
        assert got or not any(number > after for number in self.bodies)
        if got:
            self.cursors[name] = got[-1].sequence
            self.reader.advance(name, got[-1].sequence)

    @rule()
    def reopen_writer(self) -> None:
        self.writer.close()
        self.writer = DiskWriter(self.config)

    @rule()
    def reopen_reader(self) -> None:
        self.reader.close()
        self.reader = DiskReader(self.config, NAMES)

    @rule(cut=st.integers(1, 200), zeros=st.booleans(), forget_state=st.booleans())
    def crash_in_the_middle_of_a_write(self, cut: int, zeros: bool, forget_state: bool) -> None:
        self.writer.close()
        self.reader.close()
        body = b"never acknowledged" * 10
        torn = segment.frame_header(
            max(self.bodies, default=0) + 1, "traces", 1, b"", body, segment.payload_checksum(b"", body)
        )
        newest = max(self.directory.glob("*.seg"))
        with newest.open("ab") as file:
            file.write(b"\0" * cut if zeros else (torn + body)[:cut])
        if forget_state:
            (self.directory / "state").unlink()
        self.writer = DiskWriter(self.config)
        self.reader = DiskReader(self.config, NAMES)

    @invariant()
    def everything_is_where_it_was(self) -> None:
        if not hasattr(self, "directory"):
            return
        assert self.writer.last() == self.reader.last() == max(self.bodies, default=0)
        assert {name: self.reader.cursor(name) for name in NAMES} == self.cursors
        assert self.reader.lost_records == 0
        held = {number for number in self.bodies if number > min(self.cursors.values())}
        there = {one.sequence: one.body for one in self.reader.scan()}
        assert held <= there.keys()
        assert all(there[number] == self.bodies[number] for number in held)


QueueModel.TestCase.settings = settings(
    max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
test_queue_model = QueueModel.TestCase
