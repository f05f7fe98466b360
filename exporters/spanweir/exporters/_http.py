"""What HTTP answers mean to exporters."""

import time
from email.utils import parsedate_to_datetime


def retry_after_s(value: str) -> float:
    """Seconds of a Retry-After header (RFC 9110 10.2.3: seconds or a date); 0 if it is absent or says nothing."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0
