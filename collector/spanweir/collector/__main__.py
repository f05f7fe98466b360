"""`spanweir`, and `python -m spanweir.collector`."""

import sys


def main() -> None:
    try:
        from spanweir.collector.cli import commands
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        if sys.argv[1:] == ["doctor"]:  # what an instrumented application needs most, and all that it can
            from spanweir.instrumentation.__main__ import main as instrumented

            sys.exit(instrumented(sys.argv[1:]))
        sys.exit(
            "spanweir: the command line needs `pip install 'spanweir[collector]'`, or 'spanweir[all]' for everything"
        )
    commands(prog_name="spanweir")


if __name__ == "__main__":
    main()
