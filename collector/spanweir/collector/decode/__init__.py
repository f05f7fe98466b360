"""OTLP bytes to raw spans, log records and attributes, and what is done about bytes that are not quite OTLP."""


class Undecodable(ValueError):  # noqa: N818 - an adjective, as the exporters' Permanent
    """A body that is no OTLP request at all."""
