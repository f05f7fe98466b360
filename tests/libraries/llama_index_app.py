"""LlamaIndex: retrieval-augmented generation, and an agent with a tool."""

import asyncio

from llama_index.core import Document, Settings, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI

Settings.llm = OpenAI(model="gpt-4o-mini")
Settings.embed_model = OpenAIEmbedding(model="text-embedding-3-small")
index = VectorStoreIndex.from_documents([Document(text="A weir meters a river.", doc_id="d1"), Document(text="No.")])
index.as_query_engine().query("What does a weir do?")


def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


async def main() -> None:
    agent = FunctionAgent(tools=[weather], llm=Settings.llm, system_prompt="Be brief", streaming=False)
    await agent.run("In Paris?")


asyncio.run(main())
