"""What personal data and secrets look like: a pattern, and a checksum that tells it from chance where there is one."""

from collections.abc import Callable
from typing import NamedTuple


class Detector(NamedTuple):
    """A kind of personal data: what it looks like, and a check that tells it from other digits."""

    pattern: str
    """RE2 syntax."""
    check: Callable[[str], bool] = lambda text: True


def _luhn(text: str) -> bool:
    digits = [int(c) for c in text if c.isdigit()]
    if not 13 <= len(digits) <= 19 or len(set(digits)) == 1:
        return False
    doubled = [d if i % 2 == 0 else sum(divmod(2 * d, 10)) for i, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def _iban(text: str) -> bool:
    """ISO 13616: moved and read as a number, the rest by 97 is 1."""
    plain = text.replace(" ", "").upper()
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


def _ssn(text: str) -> bool:
    area, group, serial = text.split("-")
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def _phone(text: str) -> bool:
    return 9 <= sum(c.isdigit() for c in text) <= 15


def _ipv4(text: str) -> bool:
    return all(int(part) <= 255 for part in text.split("."))


DETECTORS: dict[str, Detector] = {
    "email": Detector(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*\.[A-Za-z]{2,24}"),
    "credit_card": Detector(r"\b[0-9](?:[ -]?[0-9]){12,18}\b", _luhn),
    "iban": Detector(r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b", _iban),
    "us_ssn": Detector(r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b", _ssn),
    "phone": Detector(r"\+[0-9][0-9 ().-]{7,20}[0-9]", _phone),
    "ipv4": Detector(r"\b(?:[0-9]{1,3}\.){3}[0-9]{1,3}\b", _ipv4),
    "api_key": Detector(
        r"\b(?:sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{30,}|xox[abprs]-[A-Za-z0-9-]{10,}|AKIA[0-9A-Z]{16}"
        r"|AIza[0-9A-Za-z_-]{35}|hf_[A-Za-z0-9]{30,}|dapi[0-9a-f]{32})"
    ),
    "jwt": Detector(r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
    "private_key": Detector(r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"),
}
