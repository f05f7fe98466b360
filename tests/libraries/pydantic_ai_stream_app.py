"""Pydantic AI, streaming: an agent with a tool."""

import asyncio

from pydantic_ai import Agent

agent = Agent("openai-chat:gpt-4o-mini", name="forecaster", instructions="Be brief")


@agent.tool_plain
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


async def main() -> None:
    async with agent.run_stream("In Paris?") as result:
        async for _ in result.stream_text(delta=True):
            pass


asyncio.run(main())
