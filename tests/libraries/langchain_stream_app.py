"""LangChain and LangGraph, streaming: a chain, and an agent with a tool, also asynchronously."""

import asyncio

from langchain.agents import create_agent
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


model = ChatOpenAI(model="gpt-4o-mini", stream_usage=True)
chain = ChatPromptTemplate.from_template("{question}") | model | StrOutputParser()
assert "".join(chain.stream({"question": "What does a weir do?"}))
agent = create_agent(model, [weather], name="forecaster")
for _ in agent.stream({"messages": [{"role": "user", "content": "In Paris?"}]}, stream_mode="messages"):
    pass


async def main() -> None:
    async for _ in agent.astream({"messages": [{"role": "user", "content": "In Paris?"}]}, stream_mode="messages"):
        pass


asyncio.run(main())
