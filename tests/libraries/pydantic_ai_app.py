"""Pydantic AI: an agent with a tool."""

from pydantic_ai import Agent

agent = Agent("openai-chat:gpt-4o-mini", name="forecaster", instructions="Be brief")


@agent.tool_plain
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


agent.run_sync("In Paris?")
