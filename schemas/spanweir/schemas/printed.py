"""Objects that were printed where JSON was meant: what `repr()` or `str()` makes of dataclasses, Pydantic models and
enumerations (`ChatMessage(role=<MessageRole.USER: 'user'>, content='…')`). Nothing is evaluated.

Not here: plain literals (`literals`), the messages that such objects are (`messages`).
"""

import ast
import re
from typing import Any

from spanweir.schemas.literals import MAX_LITERAL_CHARS

_BEGINS = re.compile(r"\[?[A-Za-z_][\w.]*[(=]")
_STRING = r"""'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+\""""
_PIECE = re.compile(rf"({_STRING})|<[\w.]+: ({_STRING}|-?\d+)>|(<(?:[^<>]|<[^<>]*>)*+>)|(?<![,(\s]) (\w+=)", re.DOTALL)


def printed(value: str) -> Any:
    """One printed object, or a list of them, as plain Python: objects become dicts of their fields, enumerations their
    values, objects without a field of their own (`<function f at 0x7f>`) text. None for all other text.

    Fields that begin with `_` lose it. The class's name is kept as `type` where it alone says who speaks (LangChain's
    `AIMessage`), and around Haystack's calls and results of tools, as Haystack writes them in JSON.
    """
    if len(value) > MAX_LITERAL_CHARS or not _BEGINS.match(value) or value[-1] in "({[,=":
        return None
    fields = value[0] != "[" and "(" not in value[: value.find("=")]  # a Pydantic model's `str()`: no name around it
    source = _PIECE.sub(_python, value)
    try:
        found = _read(ast.parse(f"_({source})" if fields else source, mode="eval").body)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return found if isinstance(found, (dict, list)) else None


def _python(found: re.Match[str]) -> str:
    """A piece of a printed object as an expression of Python."""
    text, member, opaque, field = found.groups()
    if field:
        return f", {field}"
    return text or member or repr(opaque)


def _read(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        return node.value if node.value is None or isinstance(node.value, (str, bool, int, float)) else str(node.value)
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        return [_read(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        return {str(_read(key)): _read(item) for key, item in zip(node.keys, node.values, strict=True) if key}
    if isinstance(node, ast.Call) and not node.args and node.keywords:
        return _object(node)
    if isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords:  # OrderedDict({…}), Decimal('1')
        return _read(node.args[0])
    if isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant):
        return ast.literal_eval(node)
    if isinstance(node, ast.Name) and node.id not in ("nan", "inf"):
        raise ValueError("text, not a printed value")
    return ast.unparse(node)


def _object(node: ast.Call) -> Any:
    name = ast.unparse(node.func).rpartition(".")[2]
    fields = {word.arg.lstrip("_"): _read(word.value) for word in node.keywords if word.arg}
    if name.endswith(("Message", "MessageChunk")) and not {"type", "role"} & fields.keys():
        fields["type"] = name
    if name == "ToolCall" and "tool_name" in fields:
        return {"tool_call": fields}
    if name == "ToolCallResult" and isinstance(fields.get("origin"), dict):
        return {"tool_call_result": {**fields, "origin": fields["origin"].get("tool_call")}}
    return fields
