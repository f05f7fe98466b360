"""`spanweir`, and `python -m spanweir.collector`."""

import sys


def main() -> None:
    try:
        from spanweir.collector.cli import commands
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.exit(
            "spanweir: the command line needs `pip install 'spanweir[collector]'`, or 'spanweir[all]' for everything"
        )
    commands(prog_name="spanweir")


if __name__ == "__main__":
    main()
