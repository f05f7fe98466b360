"""Large blocks go back to the kernel."""

import platform
import subprocess
import sys

import pytest

# Blocks are made and freed by several threads with small ones between them, as requests are.
PROGRAM = """
import sys, threading
from spanweir.collector.allocator import keep_little
if sys.argv[1] == "keep_little":
    keep_little()
kept = []
def work():
    for _ in range(4):
        large = [bytearray(b"x") * (8 << 20) for _ in range(3)]
        kept.append([bytearray(2000) for _ in range(50)])
        del large
threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
print(int(status["VmRSS"].split()[0]) // 1024)
"""


def resident_mb(how: str) -> int:
    return int(subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's options")
def test_large_blocks_do_not_stay() -> None:
    assert resident_mb("keep_little") < 60


HOLES = """
from spanweir.collector.allocator import give_back
def resident_mb():
    status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
    return int(status["VmRSS"].split()[0]) // 1024
blocks = [bytes(b"x") * 20_000 for _ in range(4000)]
kept = blocks[::20]
del blocks
before = resident_mb()
give_back()
print(before - resident_mb())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's function")
def test_holes_between_blocks_go_back() -> None:
    run = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    assert int(run.stdout) > 40
