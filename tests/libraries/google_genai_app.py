"""Google GenAI: generate_content, streaming, tools."""

from google import genai
from google.genai import types

client = genai.Client()
client.models.generate_content(
    model="gemini-3-flash",
    contents="Say hello",
    config=types.GenerateContentConfig(system_instruction="Be brief", temperature=0.1),
)
for _ in client.models.generate_content_stream(model="gemini-3-flash", contents="Stream it"):
    pass


def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


client.models.generate_content(
    model="gemini-3-pro", contents="In Paris?", config=types.GenerateContentConfig(tools=[weather])
)
