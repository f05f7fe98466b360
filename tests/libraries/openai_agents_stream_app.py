"""OpenAI Agents, streaming: an agent with a tool."""

import asyncio

import agents


@agents.function_tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


forecaster = agents.Agent(
    name="forecaster",
    instructions="Be brief",
    model="gpt-4o-mini",
    tools=[weather],
    model_settings=agents.ModelSettings(include_usage=True),
)


async def main() -> None:
    agents.set_default_openai_api("chat_completions")
    result = agents.Runner.run_streamed(forecaster, "In Paris?")
    async for _ in result.stream_events():
        pass


asyncio.run(main())
