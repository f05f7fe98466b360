"""What models read and write: messages and their parts, tools, documents, embeddings, judgements.

`Message` and its parts have the JSON form of OpenTelemetry's GenAI messages (semantic-conventions-genai
`docs/gen-ai/non-normative/models.py`), so that such messages are decoded straight into them. Like all of the canonical
span they are imported from `genai`. Not here: how senders' messages become these (`messages`, `parts`, `chat`).
"""

from typing import Any, TypeAlias

import msgspec

Json: TypeAlias = Any
"""A JSON value as plain Python; a `str` is text, never JSON to be parsed. Fields that hold a whole value (arguments and
result of `Tool`, everything in `TraceIO`) may hold `msgspec.Raw` instead, JSON text that was never decoded;
`values.plain` decodes it."""


class Text(msgspec.Struct, tag_field="type", tag="text", omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Plain text."""

    content: str


class Reasoning(
    msgspec.Struct, tag_field="type", tag="reasoning", omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """What the model thought. `signature` and `redacted` (opaque, encrypted) are what a provider wants sent back."""

    content: str = ""
    id: str | None = None
    signature: str | None = None
    redacted: str | None = None


class ToolCall(
    msgspec.Struct, tag_field="type", tag="tool_call", omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """A `str` in `arguments` is what did not parse as JSON."""

    name: str
    id: str | None = None
    arguments: Json = None


class ToolResult(
    msgspec.Struct, tag_field="type", tag="tool_call_response", omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """What a tool that the application ran gave back to the model. `id` is that of the call."""

    response: Json = None
    id: str | None = None
    name: str | None = None
    is_error: bool | None = None


class ServerToolCall(
    msgspec.Struct, tag_field="type", tag="server_tool_call", omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """A tool that the provider runs itself (web search, code interpreter)."""

    name: str
    id: str | None = None
    server_tool_call: Json = None


class ServerToolResult(
    msgspec.Struct,
    tag_field="type",
    tag="server_tool_call_response",
    omit_defaults=True,
    forbid_unknown_fields=True,
    gc=False,
):
    """What a tool that the provider ran gave. `id` is that of the call."""

    id: str | None = None
    server_tool_call_response: Json = None


class Blob(msgspec.Struct, tag_field="type", tag="blob", omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Inline media; `content` is base64. `mime_type` is to be trusted more than `modality`."""

    content: str
    mime_type: str | None = None
    modality: str | None = None


class Uri(msgspec.Struct, tag_field="type", tag="uri", omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Media that lie elsewhere."""

    uri: str
    mime_type: str | None = None
    modality: str | None = None


class File(msgspec.Struct, tag_field="type", tag="file", omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Media that were uploaded to the provider before."""

    file_id: str
    mime_type: str | None = None
    modality: str | None = None


class Refusal(
    msgspec.Struct, tag_field="type", tag="refusal", omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """The model's words for why it does not answer."""

    content: str


class Compaction(
    msgspec.Struct, tag_field="type", tag="compaction", omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """A provider's summary that stands for earlier messages."""

    id: str | None = None
    content: str | None = None


class Other(msgspec.Struct, tag_field="type", tag="spanweir.other", omit_defaults=True, gc=False):
    """A part of a type without a class of its own (citation, approval, document, …), whole in `value`."""

    kind: str = ""
    value: Json = None


Part: TypeAlias = (
    Text
    | Reasoning
    | ToolCall
    | ToolResult
    | ServerToolCall
    | ServerToolResult
    | Blob
    | Uri
    | File
    | Refusal
    | Compaction
    | Other
)


class Message(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """One message. In `GenAISpan.output` one message is one choice.

    `role` is `system`, `developer`, `user`, `assistant` or `tool` where the sender's role has such a meaning (`model`
    and `ai` are `assistant`), else as sent. A `ToolResult` may stand in any role.
    """

    role: str
    parts: list[Part] = []
    name: str | None = None
    finish_reason: str | None = None
    id: str | None = None
    index: int | None = None


class ToolDef(msgspec.Struct, omit_defaults=True, frozen=True, gc=False):
    """A tool the model may call. `parameters` is a JSON schema. Spans with the same tools share these objects: replace
    them, never change what is in them."""

    name: str
    type: str = "function"
    description: str | None = None
    parameters: Json = None
    strict: bool | None = None


class Doc(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A retrieved, reranked or cited document."""

    content: str | None = None
    id: str | None = None
    title: str | None = None
    uri: str | None = None
    score: float | None = None
    metadata: Json = None
    """An object, or whatever the sender put there."""
    index: int | None = None
    """Position in the list it was chosen from (rerankers)."""


class Embedding(msgspec.Struct, omit_defaults=True, gc=False):
    """One text that was embedded; `vector` only where the sender sent it."""

    text: str | None = None
    vector: Json = None
    """A list of numbers."""
    dimensions: int | None = None


class Evaluation(msgspec.Struct, omit_defaults=True, gc=False):
    """A judgement on the span (or on `response_id`), as the sender gave it."""

    name: str
    score: float | None = None
    label: str | None = None
    explanation: str | None = None
    response_id: str | None = None
    evaluator: str | None = None
    """`HUMAN`, `LLM` or `CODE`, or the evaluator's name."""
    error: str | None = None
    scope: str = "span"
    """`span`, `trace` or `session`."""
    metadata: Json = None
    time_ns: int = 0
