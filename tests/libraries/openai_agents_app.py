"""OpenAI Agents: an agent with a tool and a hand-off."""

import agents


@agents.function_tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


forecaster = agents.Agent(name="forecaster", instructions="Be brief", model="gpt-4o-mini", tools=[weather])
agents.Runner.run_sync(forecaster, "In Paris?")
