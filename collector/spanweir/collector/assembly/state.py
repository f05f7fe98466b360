"""What assembly keeps of one trace: a few numbers a span, no content but the question, the answer and one span that
may have to be sent again.

Every field is a function of the set of spans that were folded in, never of their order, so that any arrival order,
batching or replay ends in the same state. The structs encode as MessagePack arrays: a complete trace is kept, and a
snapshot is written, in that form (`Kept`).
"""

import msgspec

from spanweir.schemas.raw import Event, Link, RawSpan, Resource, Scope
from spanweir.schemas.trace import Assessment, Cost, TokenUsage

Tokens = tuple[int, int, int, int | None, int | None, int | None]
"""input, output, total, cache read, cache creation, cache creation above 1 h: the fields of `TokenUsage`."""

Dollars = tuple[int, int, int, bool]
"""input, output, total in 1e-12 dollars, and `reported`: the fields of `Cost`. Whole numbers, as a sum of floats would
depend on the order in which spans came."""

PICO = 1_000_000_000_000
_KEPT_OVERHEAD = 350
"""Of a complete trace's objects, and of its place among the others."""

First = tuple[int, str, str]
"""(start_ns, span_id, value): of several spans that give a value the one that started first wins."""

CALLS = frozenset({"llm", "embedding", "rerank", "image", "audio", "moderation"})
"""Kinds that are one call of a model: their usage is their own."""

TRANSPARENT = CALLS | {"", "other", "router", "step"}
"""Kinds between two model spans across which the inner one is still the same call (an HTTP hop, a gateway, a wrapper):
through a tool or an agent it is another."""


class Node(msgspec.Struct, array_like=True, gc=False):
    """A span."""

    parent: str
    start_ns: int
    end_ns: int
    kind: str
    error: bool = False
    usage: Tokens | None = None
    aggregate: bool = False
    """`usage` is a sum over spans below, or is that of a span which is no model call."""
    cost: Dollars | None = None
    size_bytes: int = 0
    response_id: str = ""
    scope: str = ""
    running: str = ""
    """`Summary.running`."""


Seen = tuple[str, str, int, int, str, bool, Tokens | None, bool, Dollars | None, int, str, str, str]
"""A span's id, then the fields of its `Node`."""


class Content(msgspec.Struct, array_like=True):
    """A question or an answer taken from a span, with the key by which the best one is chosen."""

    rank: int
    order_ns: int
    tie_ns: int
    span_id: str
    value: bytes
    """JSON text."""
    preview: str | None = None

    @property
    def key(self) -> tuple[int, int, int, str]:
        return (self.rank, self.order_ns, self.tie_ns, self.span_id)


class Facts(msgspec.Struct, array_like=True):
    """What the spans of a trace say of it as a whole."""

    trace_id: str
    experiment: str = ""
    run_id: str | None = None
    tenant: str = ""
    root: str = ""
    """The parentless span that started first."""
    root_name: str = ""
    root_generic: bool = False
    root_ended: bool = False
    own_request: bool = False
    own_response: bool = False
    """The root has inputs, outputs of its own."""
    request: bytes | None = None
    response: bytes | None = None
    """The root's own; not kept beyond `Options.content_max`."""
    request_preview: str | None = None
    response_preview: str | None = None
    given_name: First | None = None
    title: First | None = None
    first_name: First | None = None
    """The name of the span that started first."""
    session: First | None = None
    user: First | None = None
    tags: dict[str, First] = {}
    metadata: dict[str, First] = {}
    root_tags: dict[str, str] = {}
    client_request_id: str | None = None
    model_id: str | None = None
    given_request: First | None = None
    given_response: First | None = None
    size_bytes: int = 0

    def forget(self, limit: int) -> None:
        """Let go of content that is too large to be kept."""
        if self.request is not None and len(self.request) > limit:
            self.request = None
        if self.response is not None and len(self.response) > limit:
            self.response = None


class Trace(Facts, tag=0):
    """The state of one trace."""

    nodes: dict[str, Node] = {}
    waiting: dict[str, list[str]] = {}
    """Parents that have not come -> the spans that name them."""
    dropped: dict[str, str] = {}
    """Spans that a processor took out -> their parents."""
    start_ns: int = 0
    end_ns: int = 0
    # totals
    below: set[str] = set()
    """Spans with a model call of known usage somewhere below: an aggregate among them does not count."""
    inner: set[str] = set()
    """Spans with such a call below and nothing but `TRANSPARENT` spans between: a model span among them is the same
    call seen again."""
    responses: dict[str, list[str]] = {}
    """Response id -> the model calls that name it."""
    tokens: list[int] = []
    """Sum over the model calls that count, as `Tokens`, then how many of them gave each cache count."""
    calls: int = 0
    dollars: list[int] = []
    """Sum over the model calls that count, how many of these costs were reported, and how many there are."""
    aggregates: set[str] = set()
    """Aggregates without a model call below."""
    outermost: list[str] | None = None
    """Of `aggregates`, those without another one above; None: to be found anew."""
    costly: set[str] = set()
    """Spans whose cost is not in `dollars`: used only where no model call has a cost."""
    loops: dict[str, list[str]] = {}
    """Parent -> its model calls that report the sum of a tool loop so far."""
    # root
    adopted: str = ""
    """The orphan that stands in for the root."""
    placeholders: list[str] = []
    """Ids of missing parents that were synthesised; without a root the first of them is it."""
    finalised: bool = False
    complete: bool = False
    revision: int = 0
    # the row's own values
    question: Content | None = None
    answer: Content | None = None
    assessments: dict[str, Assessment] = {}
    # spans that may have to be sent again: span id -> `freeze`
    kept: dict[str, bytes] = {}
    running: list[str] = []
    """Of `kept`, spans without an end."""
    opened_s: float = 0.0
    touched_s: float = 0.0
    weight: int = 0
    """Bytes of content in here, when it was last looked at."""

    def weigh(self) -> int:
        """Bytes of content that are kept."""
        weight = len(self.request or b"") + len(self.response or b"")
        if self.kept:
            weight += sum(map(len, self.kept.values()))
        if self.question is not None:
            weight += len(self.question.value)
        if self.answer is not None:
            weight += len(self.answer.value)
        self.weight = weight
        return weight

    def parent_of(self, span_id: str) -> str:
        """A parent as it stands after processors took spans out."""
        for _ in range(len(self.dropped) + 1):
            if span_id not in self.dropped:
                break
            span_id = self.dropped[span_id]
        return span_id


class Whole(Facts, tag=1):
    """A complete trace that came at once, as its spans said it: all else of a `Trace` follows from that."""

    spans: list[Seen] = []


class Kept(msgspec.Struct, array_like=True, gc=False):
    """A complete trace as it is kept. Its content stands beside the rest: to write that in again would cost more than
    all else of it."""

    data: bytes
    request: bytes | None
    response: bytes | None
    request_preview: str | None
    response_preview: str | None
    size_bytes: int
    """Of memory."""


class Saved(msgspec.Struct, array_like=True):
    """The traces of a snapshot."""

    opened: list[Trace]
    closed: list[Kept]


_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode
_decode_kept = msgspec.msgpack.Decoder(Trace | Whole).decode
decode_saved = msgspec.msgpack.Decoder(Saved).decode


def keep(trace: Trace | Whole) -> Kept:
    """What is kept of a complete trace. `trace` is good for nothing else then."""
    content = trace.request, trace.response, trace.request_preview, trace.response_preview
    trace.request = trace.response = trace.request_preview = trace.response_preview = None
    data = encode(trace)
    size_bytes = _KEPT_OVERHEAD + len(data)
    for text in content:
        if text is not None:
            size_bytes += len(text)
    return Kept(data, *content, size_bytes)


def of(kept: Kept) -> Trace | Whole:
    """A trace from `keep`. Raises msgspec.MsgspecError."""
    trace: Trace | Whole = _decode_kept(kept.data)
    trace.request, trace.response = kept.request, kept.response
    trace.request_preview, trace.response_preview = kept.request_preview, kept.response_preview
    return trace


def freeze(raw: RawSpan) -> bytes:
    return _encoder.encode(raw)


def thaw(data: bytes) -> RawSpan:
    """A span from `freeze`; by hand, as msgspec has no union of `str` and `bytes`."""
    fields = msgspec.msgpack.decode(data)
    fields["events"] = [Event(**event) for event in fields["events"]]
    fields["links"] = [Link(**link) for link in fields["links"]]
    fields["resource"] = Resource(**fields["resource"])
    fields["scope"] = Scope(**fields["scope"])
    fields["issues"] = tuple(fields["issues"])
    return RawSpan(**fields)


def tokens_of(usage: TokenUsage) -> Tokens:
    return (
        usage.input_tokens,
        usage.output_tokens,
        usage.total_tokens,
        usage.cache_read_input_tokens,
        usage.cache_creation_input_tokens,
        usage.cache_creation_input_tokens_above_1hr,
    )


def dollars_of(cost: Cost) -> Dollars:
    return (round(cost.input_cost * PICO), round(cost.output_cost * PICO), round(cost.total_cost * PICO), cost.reported)


def earlier(old: First | None, new: First) -> First:
    """The one of the span that started first; a span that is sent again replaces its own value."""
    if old is None or new[:2] <= old[:2]:
        return new
    return old
