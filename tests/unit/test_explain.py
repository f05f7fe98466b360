"""Where fields come from: attributes, events and logs; what lost; what was left unread."""

from spanweir.schemas.explain import explain, shown
from spanweir.schemas.raw import Event, RawLog, RawSpan, Scope


def span(attributes: dict, **fields: object) -> RawSpan:
    return RawSpan(
        trace_id="ab" * 16, span_id="cd" * 8, name="n", start_ns=1, end_ns=2, attributes=attributes, **fields
    )


def test_fields_are_told_with_convention_and_key() -> None:
    told = explain(
        span(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.request.model": "gpt-4o-mini",
                "gen_ai.usage.input_tokens": 3,
                "http.method": "POST",
            }
        )
    )
    model = told.sources["model.request"]
    assert (model.convention, model.keys, model.location) == ("otel_genai", ["gen_ai.request.model"], "span")
    assert told.sources["usage.input"].keys == ["gen_ai.usage.input_tokens"]
    assert told.unread == ["http.method"]
    assert told.span is not None
    assert shown(told.span, "model.request") == "gpt-4o-mini"


def test_a_field_of_many_attributes_names_them_all() -> None:
    attributes = {
        "openinference.span.kind": "LLM",
        "llm.input_messages.0.message.role": "system",
        "llm.input_messages.0.message.content": "What is a weir?",
    }
    told = explain(span(attributes, scope=Scope(name="openinference.instrumentation.openai")))
    source = told.sources["input"]
    assert source.convention == "openinference"
    assert set(source.keys) >= {"llm.input_messages.0.message.role", "llm.input_messages.0.message.content"}


def test_what_lost_is_told() -> None:
    told = explain(
        span(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.request.model": "right",
                "openinference.span.kind": "LLM",
                "gen_ai.usage.input_tokens": 10,
                "llm.token_count.prompt": 99,
            }
        )
    )
    lost = {(conflict.field, conflict.convention): conflict for conflict in told.conflicts}
    conflict = lost["usage.input", "openinference"]
    assert conflict.keys == ["llm.token_count.prompt"]
    assert conflict.reason == "99"


def test_events_and_logs_are_told() -> None:
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.system": "openai"}
    body = {"content": "What is a weir?", "role": "user"}
    log = RawLog(trace_id="ab" * 16, span_id="cd" * 8, event_name="gen_ai.user.message", time_ns=1, body=body)
    told = explain(span(attributes), [log])
    assert (told.sources["input"].location, told.sources["input"].keys) == ("log", ["gen_ai.user.message"])
    event = Event(name="gen_ai.user.message", time_ns=1, attributes={"content": "What is a weir?", "role": "user"})
    told = explain(span(attributes, events=[event]))
    assert (told.sources["input"].location, told.sources["input"].keys) == ("event", ["gen_ai.user.message"])


def test_a_span_about_something_else() -> None:
    told = explain(span({"http.method": "GET"}))
    assert told.span is None
    assert told.sources == {}
    assert told.unread == ["http.method"]


def test_very_many_attributes_are_left_out_in_groups() -> None:
    attributes: dict = {"openinference.span.kind": "LLM"}
    for i in range(300):
        attributes[f"llm.input_messages.{i}.message.role"] = "assistant"
        attributes[f"llm.input_messages.{i}.message.content"] = f"m{i}"
    told = explain(span(attributes, scope=Scope(name="openinference.instrumentation.openai")))
    assert len(told.sources["input"].keys) == 600
