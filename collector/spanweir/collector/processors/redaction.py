"""Takes personal data and secrets out of spans, log records and metrics, before anything is mapped, kept or written.

Every text is looked at: attributes of spans, events, links, scope and resource, names, status messages, log bodies,
attributes of metrics, data points and exemplars.
Text that is JSON is walked leaf by leaf, so that messages, tool arguments and documents are covered, and a key such as
`password` inside them counts. What cannot be looked at is masked whole: redaction fails closed.

Keys are as in the OpenTelemetry Collector's `redaction` processor where it has them; unlike there every key is allowed
by default.
"""

import hashlib
import hmac
from typing import Any, Literal

import msgspec
import orjson

from spanweir.collector.processors._actions import compile_pattern
from spanweir.collector.processors._detectors import DETECTORS
from spanweir.collector.processors.api import Context, Item, Place
from spanweir.schemas.options import Secret
from spanweir.schemas.raw import Attributes, Event, RawLog, RawSpan, Resource, Scope, Value

MARK = "[REDACTED"
_DEPTH_MAX = 100
_CACHE_MAX = 1000
_replace = msgspec.structs.replace
Name = Literal["email", "credit_card", "iban", "us_ssn", "phone", "ipv4", "api_key", "jwt", "private_key"]


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    allow_all_keys: bool = True
    """Keep attributes whatever their key. If false, only those in `allowed_keys` and `ignored_keys` are kept."""
    allowed_keys: tuple[str, ...] = ()
    """Attribute keys that are kept when `allow_all_keys` is false; their values are still looked at."""
    ignored_keys: tuple[str, ...] = ()
    """Attribute keys whose values are never looked at."""
    blocked_key_patterns: tuple[str, ...] = (
        "(?i)(^|[._-])(password|passwd|secret|api[_-]?key|authorization|access[_-]?token|refresh[_-]?token)$",
    )
    """RE2 patterns; the value of a key that holds a match is masked whole, also inside of JSON."""
    blocked_values: tuple[str, ...] = ()
    """RE2 patterns; what matches in a text is masked."""
    allowed_values: tuple[str, ...] = ()
    """RE2 patterns; a finding of `blocked_values` or `detectors` that matches one of these whole stays."""
    detectors: tuple[Name, ...] = ("email", "iban", "credit_card", "us_ssn", "phone", "api_key", "jwt", "private_key")
    """Built-in patterns, with checksums where there are any."""
    action: Literal["mask", "hash", "drop"] = "mask"
    """`mask` puts a label such as `[REDACTED_EMAIL]`, `hash` one that is equal for equal values, `drop` nothing."""
    hash_key: Secret = Secret("")
    """Key of the hashes. Without one, short values such as phone numbers can be found by trying."""

    def __post_init__(self) -> None:
        for option in ("blocked_key_patterns", "blocked_values", "allowed_values"):
            for pattern in getattr(self, option):
                if not pattern:
                    raise ValueError(f"{option}: an empty pattern would match everything")

    def build(self, context: Context) -> "Redaction":
        return Redaction(self, context)


class Redaction:
    """A `Processor`, `LogProcessor` and `MetricProcessor`. What it cannot look into is masked whole."""

    before_mapping = True
    rewrites = True

    def __init__(self, config: Config, context: Context) -> None:
        self._config = config
        self._count = context.count
        self._blocked_keys = [_compile("blocked_key_patterns", p) for p in config.blocked_key_patterns]
        self._allowed_values = [_compile("allowed_values", p) for p in config.allowed_values]
        own = [("", _compile("blocked_values", p), None) for p in config.blocked_values]
        built_in = [
            (name.upper(), _compile(name, DETECTORS[name].pattern), DETECTORS[name].check) for name in config.detectors
        ]
        self._findings = [*built_in, *own]
        self._kept = frozenset(config.allowed_keys) | frozenset(config.ignored_keys)
        self._ignored = frozenset(config.ignored_keys)
        self._keys: dict[str, bool] = {}
        self._shared: dict[int, tuple[Any, Any]] = {}
        self._masked = 0

    def process(self, items: list[Item]) -> list[Item]:
        for item in items:
            item.raw = self._span(item.raw)
        self._tell()
        return items

    def process_logs(self, logs: list[RawLog]) -> list[RawLog]:
        cleaned = [
            _replace(
                log,
                body=self._value("", log.body, 0),
                attributes=self._attributes(log.attributes),
                resource=self._shared_of(log.resource),
                scope=self._shared_of(log.scope),
            )
            for log in logs
        ]
        self._tell()
        return cleaned

    def process_metric_attributes(self, attributes: Attributes, place: Place) -> Attributes:
        cleaned = self._attributes(attributes)
        self._tell()
        return cleaned

    def _tell(self) -> None:
        if self._masked:
            self._count("spanweir_redaction_masked_values", self._masked)
            self._masked = 0

    # ---------------------------------------------------------------------------------------- spans

    def _span(self, raw: RawSpan) -> RawSpan:
        return _replace(
            raw,
            name=self._text(raw.name),
            status_message=self._text(raw.status_message) if raw.status_message else "",
            attributes=self._attributes(raw.attributes),
            events=[self._event(event) for event in raw.events] if raw.events else raw.events,
            links=[_replace(link, attributes=self._attributes(link.attributes)) for link in raw.links]
            if raw.links
            else raw.links,
            resource=self._shared_of(raw.resource),
            scope=self._shared_of(raw.scope),
        )

    def _event(self, event: Event) -> Event:
        return _replace(event, name=self._text(event.name), attributes=self._attributes(event.attributes))

    def _shared_of(self, one: Any) -> Any:
        """A resource or scope, once for all of its spans."""
        known = self._shared.get(id(one))
        if known is not None and known[0] is one:
            return known[1]
        cleaned: Resource | Scope = _replace(one, attributes=self._attributes(one.attributes))
        if len(self._shared) >= _CACHE_MAX:
            self._shared.clear()
        self._shared[id(one)] = (one, cleaned)
        return cleaned

    # ---------------------------------------------------------------------------------------- values

    def _attributes(self, attributes: Attributes) -> Attributes:
        everything = self._config.allow_all_keys
        cleaned: Attributes = {}
        for key, value in attributes.items():
            if not everything and key not in self._kept:
                self._masked += 1
                continue
            if key in self._ignored:
                cleaned[key] = value
                continue
            found = self._value(key, value, 0)
            if found is not None or value is None:
                cleaned[self._text(key)] = found
        return cleaned

    def _value(self, key: str, value: Value, depth: int) -> Value:
        if key and self._is_blocked(key):
            return self._mask(value, "")
        try:
            if isinstance(value, str):
                return self._string(value, depth)
            if isinstance(value, dict):
                return self._object(value, depth)
            if isinstance(value, list):
                return [self._value("", item, depth + 1) for item in value]
            if isinstance(value, bytes):
                text = value.decode("utf-8", "ignore")
                return value if self._text(text) == text else self._mask(value, "")
            if isinstance(value, int | float) and not isinstance(value, bool):
                text = str(value)
                return value if self._text(text) == text else self._mask(value, "")
        except Exception:
            return self._mask(value, "")
        return value

    def _object(self, value: dict[str, Value], depth: int) -> Value:
        if depth > _DEPTH_MAX:
            return self._mask(value, "")
        cleaned: dict[str, Value] = {}
        for name, item in value.items():
            found = self._value(name, item, depth + 1)
            if found is not None or item is None:
                cleaned[self._text(name)] = found
        return cleaned

    def _string(self, text: str, depth: int) -> str:
        """JSON is walked; if nothing in it is masked the text stays as it is, byte for byte."""
        if text[:1] in ("{", "[", '"') and len(text) > 1:
            try:
                decoded = orjson.loads(text)
            except ValueError:
                return self._text(text)  # cut short, or no JSON: the patterns look at all of it
            cleaned = self._value("", decoded, depth + 1)
            return text if cleaned == decoded else orjson.dumps(cleaned).decode()
        return self._text(text)

    def _text(self, text: str) -> str:
        for label, pattern, check in self._findings:
            if pattern.search(text) is None:
                continue

            def put(match: Any, label: str = label, check: Any = check) -> str:
                found: str = match.group(0)
                if (check is not None and not check(found)) or any(p.fullmatch(found) for p in self._allowed_values):
                    return found
                masked = self._mask(found, label)
                return masked if isinstance(masked, str) else ""

            text = pattern.sub(put, text)
        return text

    def _is_blocked(self, key: str) -> bool:
        known = self._keys.get(key)
        if known is None:
            known = any(pattern.search(key) is not None for pattern in self._blocked_keys)
            if len(self._keys) < _CACHE_MAX * 10:
                self._keys[key] = known
        return known

    def _mask(self, value: Value, label: str) -> Value:
        if isinstance(value, str) and value.startswith(MARK):
            return value  # a span that is written again has been here before
        self._masked += 1
        action = self._config.action
        if action == "drop":
            return None
        suffix = f"_{label}" if label else ""
        if action == "mask":
            return f"{MARK}{suffix}]"
        text = value if isinstance(value, str) else repr(value)
        key = self._config.hash_key.reveal().encode()
        digest = hmac.new(key, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:16]
        return f"{MARK}{suffix} {digest}]"


def _compile(option: str, pattern: str) -> Any:
    try:
        return compile_pattern(pattern)
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from error
