"""`python -m spanweir.instrumentation doctor`."""

import sys

from spanweir.instrumentation import doctor


def main(arguments: list[str]) -> int:
    if arguments != ["doctor"]:
        print("usage: python -m spanweir.instrumentation doctor", file=sys.stderr)
        return 2
    report = doctor.examine()
    print(doctor.text(report))
    return 0 if report.healthy else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
