"""Anthropic: messages, streaming, tools."""

import anthropic

client = anthropic.Anthropic()
tool = {
    "name": "weather",
    "description": "The weather in a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
question = [{"role": "user", "content": "Say hello"}]
client.messages.create(model="claude-sonnet-4-5", max_tokens=64, system="Be brief", messages=question)
with client.messages.stream(model="claude-sonnet-4-5", max_tokens=64, messages=question) as stream:
    for _ in stream.text_stream:
        pass
client.messages.create(model="claude-opus-4-5", max_tokens=64, messages=question, tools=[tool])
