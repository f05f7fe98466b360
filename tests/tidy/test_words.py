"""Nothing in the tree depends on, or speaks of, the machine it was written on."""

import re

from tests.tidy.test_layout import ROOT, tracked

MACHINE = re.compile(rb"(?<![\w.])/(?:work|root|home/\w+|Users/\w+|tmp/sp)/")


def test_no_machine_paths() -> None:
    found = []
    for name in tracked():
        if name.endswith("test_words.py"):
            continue
        for number, line in enumerate((ROOT / name).read_bytes().splitlines(), 1):
            if MACHINE.search(line) and not name.startswith("tests/golden/"):
                found.append(f"{name}:{number}")
    assert not found


def test_text_files_end_with_a_newline() -> None:
    suffixes = (".py", ".md", ".toml", ".yaml", ".yml")
    bad = [
        name
        for name in tracked()
        if name.endswith(suffixes) and (data := (ROOT / name).read_bytes()) and not data.endswith(b"\n")
    ]
    assert not bad
