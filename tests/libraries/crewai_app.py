"""CrewAI: a crew of one agent with a tool."""

from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool


@tool("weather")
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


llm = LLM(model="openai/gpt-4o-mini")
forecaster = Agent(role="Forecaster", goal="Tell the weather", backstory="Born in rain", llm=llm, tools=[weather])
task = Task(description="Is it sunny in Paris?", expected_output="A sentence", agent=forecaster)
Crew(agents=[forecaster], tasks=[task]).kickoff()
