"""OpenAI: chat, streaming, tools, responses, embeddings."""

import contextlib

import openai

client = openai.OpenAI()
tool = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Say hello"}])
stream = client.chat.completions.create(
    model="gpt-4o-mini",
    messages=[{"role": "user", "content": "Stream it"}],
    stream=True,
    stream_options={"include_usage": True},
)
for _ in stream:
    pass
client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "In Paris?"}], tools=[tool])
client.responses.create(model="gpt-5-mini", instructions="Be brief", input="Hello")
client.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
with contextlib.suppress(openai.APIError):
    openai.OpenAI(max_retries=0).chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "overloaded"}]
    )
