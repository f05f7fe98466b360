"""Secrets in text that people read: URLs, error messages, log lines.

Destinations' libraries put the address into their errors, and an address may hold a password or a signature; so what
is logged is masked where it leaves, whoever wrote it. Not here: options that are secrets by their type (`config.show`).
"""

import logging
import re
import sys
import threading

from spanweir.collector.processors._detectors import DETECTORS

MASK = "[REDACTED]"
SECRET_NAMES = "password|passwd|pwd|secret|token|credentials?|signature|sig|sas|authorization"
_PASSWORD = re.compile(r"(?P<before>[a-z][a-z0-9+.-]*://[^/@:\s]*:)(?P<password>[^@/\s]+)@", re.IGNORECASE)
_PARAMETER = re.compile(rf"(?P<before>[?&][^=&#\s]*(?:{SECRET_NAMES}|key)[^=&#\s]*=)[^&#\s]+", re.IGNORECASE)
_TOKENS = re.compile(
    "|".join(f"(?:{DETECTORS[name].pattern.removeprefix('(?s)')})" for name in ("api_key", "jwt", "private_key"))
    + r"|\b(?:Bearer|Basic) [A-Za-z0-9+/=._~-]{8,}",
    re.DOTALL,
)


def mask(text: str) -> str:
    """`text` with the passwords of URLs in it masked, parameters that are secrets by their names, and tokens."""
    text = _TOKENS.sub(MASK, text)
    return _PARAMETER.sub(rf"\g<before>{MASK}", _PASSWORD.sub(rf"\g<before>{MASK}@", text))


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return mask(super().format(record))


def log_to_stderr(level: str) -> None:
    """Everything that is logged, and what no one catches, to standard error. For a process of its own."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    log = logging.getLogger("spanweir.collector")
    sys.excepthook = lambda kind, error, trace: log.critical("it ends", exc_info=(kind, error, trace))
    threading.excepthook = lambda failed: log.critical("a thread ends", exc_info=failed.exc_value)
