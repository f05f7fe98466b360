"""LangChain and LangGraph: an agent with a tool, and retrieval-augmented generation."""

from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.tools import tool
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import ChatOpenAI, OpenAIEmbeddings


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


model = ChatOpenAI(model="gpt-4o-mini")
agent = create_agent(model, [weather], system_prompt="Be brief", name="forecaster")
agent.invoke({"messages": [{"role": "user", "content": "In Paris?"}]})

store = InMemoryVectorStore(OpenAIEmbeddings(model="text-embedding-3-small", check_embedding_ctx_length=False))
store.add_documents([Document("A weir meters a river.", id="d1", metadata={"uri": "a.md"}), Document("No.", id="d2")])
prompt = ChatPromptTemplate.from_template("Answer from {context}: {question}")
chain = {"context": store.as_retriever(), "question": RunnablePassthrough()} | prompt | model | StrOutputParser()
chain.invoke("What does a weir do?")
