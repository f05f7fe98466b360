"""Printed objects are read without evaluating anything; other text stays text."""

import pytest

from spanweir.schemas.content import tools
from spanweir.schemas.genai import Message, Text
from spanweir.schemas.messages import messages
from spanweir.schemas.notes import Notes
from spanweir.schemas.printed import printed


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            r"ChatMessage(role=<MessageRole.USER: 'user'>, content=[{'type': 'text', 'text': 'It\'s <b>'}], raw=None)",
            {"role": "user", "content": [{"type": "text", "text": "It's <b>"}], "raw": None},
        ),
        ("[HumanMessage(content='hi')]", [{"content": "hi", "type": "HumanMessage"}]),
        ("content='a (b=c) d' meta={'n': -1} id='run'", {"content": "a (b=c) d", "meta": {"n": -1}, "id": "run"}),
        (
            "Tool(name='f', run=<bound method A.b of <A object at 0x1>>, at=datetime.datetime(2026, 1, 2))",
            {"name": "f", "run": "<bound method A.b of <A object at 0x1>>", "at": "datetime.datetime(2026, 1, 2)"},
        ),
        ("Turn(said=OrderedDict({'a': 1}), cost=Decimal('0.1'))", {"said": {"a": 1}, "cost": "0.1"}),
    ],
)
def test_objects_become_their_fields(text: str, found: object) -> None:
    assert printed(text) == found


@pytest.mark.parametrize(
    "text",
    ["", "hello", "f(x)", "answer=yes", "a=b c", "Ask me (politely)", "X(" * 3000, "X(a='b", "[a=", "X(a=b)", "[1, 2]"],
)
def test_other_text_is_no_object(text: str) -> None:
    assert printed(text) is None


def test_text_that_looks_like_code_stays_what_was_said() -> None:
    for said in ("print(x=1)", "f(a='b')", "temperature='5'"):
        assert messages([said], Notes()) == [Message("user", [Text(said)])]


def test_names_of_tools_stay_names() -> None:
    assert [tool.name for tool in tools(["depth", "search(web)"], Notes()) or ()] == ["depth", "search(web)"]
