"""What delta-rs, obstore and the file system say went wrong, in one line, and whether trying again may help."""

import re
from typing import Final

from spanweir.exporters.api import Permanent, Retry

_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_STEP: Final = re.compile(r"\s*(↳|->)\s*")
_SIGNED: Final = re.compile(
    r"([?&](?:sig|X-Amz-Signature|X-Amz-Security-Token|X-Goog-Signature)=)[^&\s]+", re.IGNORECASE
)
_MOST: Final = 600
_NO_BUCKET: Final = re.compile(
    r"NoSuchBucket|ContainerNotFound|bucket does not exist|no such bucket|(bucket|container) (was )?not found",
    re.IGNORECASE,
)
_DENIED: Final = re.compile(
    r"access ?denied|forbidden|unauthori[sz]ed|authenticationrequired|invalid ?access ?key|signaturedoesnotmatch|"
    r"\b40[13] |credential|invalid_grant|lacked the necessary privileges|service account|pem file|"
    r"missing (region|account)|account must be specified|TABLE_OR_VIEW_NOT_FOUND|PERMISSION_DENIED",
    re.IGNORECASE,
)


def said(error: BaseException) -> str:
    """The message on one line, without colours, signatures of URLs, and what is beyond 600 characters."""
    text = _STEP.sub(": ", _COLOUR.sub("", str(error)))
    text = _SIGNED.sub(r"\1…", " ".join(text.split()))
    return text if len(text) <= _MOST else text[: _MOST - 1] + "…"


def later(uri: str, error: BaseException) -> Retry:
    return Retry(f"{uri}: {said(error)}", after_s=1.0)


def explained(uri: str, error: BaseException) -> Permanent | Retry:
    """Of opening a table or creating it: what no retry heals is `Permanent`, and says where to look."""
    text = said(error)
    if _NO_BUCKET.search(text):
        return Permanent(f"{uri}: there is no such bucket or container: {text}; make it, or name another in path")
    if _DENIED.search(text):
        return Permanent(
            f"{uri}: the store refuses access: {text}; check the credentials and region in storage_options or in the "
            "environment"
        )
    return Permanent(f"{uri}: {text}") if isinstance(error, ValueError) else later(uri, error)
