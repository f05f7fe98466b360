"""The disk queue between processes: the writer here, the reader in another one, as in the service."""

import subprocess
import sys
from pathlib import Path

from spanweir.collector.queue.api import Record
from spanweir.collector.queue.disk import Config

READER = """
import resource, sys
from spanweir.collector.queue.disk import Config
reader = Config(directory=sys.argv[1]).open_reader(["a"])
print("ready", flush=True)
after = reader.cursor("a")
began = resource.getrusage(resource.RUSAGE_SELF)
assert not reader.read(after, 1, 1, 1.5)
idle = resource.getrusage(resource.RUSAGE_SELF)
print(idle.ru_utime + idle.ru_stime - began.ru_utime - began.ru_stime, flush=True)
while True:
    for record in reader.read(after, 100, 1 << 20, 60):
        after = record.sequence
        if record.body == b"end":
            sys.exit()
        print(record.sequence, record.body.decode(), flush=True)
    reader.advance("a", after)
"""


def start_reader(config: Config) -> "subprocess.Popen[str]":
    reader = subprocess.Popen([sys.executable, "-c", READER, config.directory], stdout=subprocess.PIPE, text=True)
    assert reader.stdout is not None
    assert reader.stdout.readline() == "ready\n"
    return reader


def test_a_reader_in_another_process_sees_each_record_and_waits_without_work(tmp_path: Path) -> None:
    config = Config(directory=str(tmp_path / "queue"))
    writer = config.open_writer()
    reader = start_reader(config)
    assert reader.stdout is not None
    # A loop without pauses would have used 1.5 seconds.
    assert float(reader.stdout.readline()) < 0.5
    for number in range(1, 31):
        writer.append(Record(signal="logs", received_ns=1, body=b"%d" % number))
        assert reader.stdout.readline() == f"{number} {number}\n"
    writer.append(Record(signal="logs", received_ns=1, body=b"end"))
    assert reader.wait(30) == 0
    writer.close()


def test_a_reader_that_was_killed_goes_on_at_its_cursor(tmp_path: Path) -> None:
    config = Config(directory=str(tmp_path / "queue"))
    writer = config.open_writer()
    for number in range(1, 11):
        writer.append(Record(signal="logs", received_ns=1, body=b"%d" % number))
    first = config.open_reader(["a"])
    first.advance("a", 4)
    second = config.open_reader(["a"])
    assert [record.sequence for record in second.read(second.cursor("a"), 100, 1 << 20, 0)] == list(range(5, 11))
    first.close()
    second.close()
    writer.close()
