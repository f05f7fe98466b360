"""Four processes that write the same Delta tables, while their table care compacts and sweeps: conflicts and losses.

    python tests/benchmarks/delta_writers.py [--writers 4] [--records 400]

An hour of commits in miniature: each writer commits every 20 ms, merges late spans, and has table care every 200 ms.
At the end every span must be there once, and no writer may have been told to try again.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from deltalake import DeltaTable

from spanweir.exporters.delta import Config
from spanweir.exporters.delta.reading import Tables, rows
from tests.support.traces import records

ROOT = Path(__file__).parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--records", type=int, default=400)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        began = time.monotonic()
        command = [sys.executable, "-m", "tests.support.delta_writer", directory]
        writers = [
            subprocess.Popen(
                [*command, str(300 + n), str(options.records), str(n)], cwd=ROOT, stderr=subprocess.PIPE, text=True
            )
            for n in range(options.writers)
        ]
        said = [writer.communicate()[1] for writer in writers]
        print(f"{options.writers} writers, {options.records} records each, {time.monotonic() - began:.0f} s")
        print("ended with", [writer.returncode for writer in writers])
        print("told to try again:", sum(text.count("retry:") for text in said))
        print("warnings:", Counter(line[:120] for text in said for line in text.splitlines()).most_common(5))
        config = Config(path=f"{directory}/tables")
        for suffix in ("otel_spans", "payload", "otel_annotations"):
            table = DeltaTable(config.table_uri(suffix))
            done = Counter(entry["operation"] for entry in table.history())
            print(f"{suffix}: {dict(done)}, {len(table.file_uris())} files at the end")
        found = Counter(
            (row["trace_id"], row["span_id"])
            for row in rows(Tables(config).query("SELECT trace_id, span_id FROM otel_spans", "otel_spans"))
        )
        sent = {
            (s.trace_id, s.span_id)
            for n in range(options.writers)
            for batch in records(300 + n, options.records)
            for s in batch.spans
        }
        print(f"{len(sent):,} spans sent, {len(sent - set(found))} missing, {sum(n - 1 for n in found.values())} twice")


if __name__ == "__main__":
    main()
