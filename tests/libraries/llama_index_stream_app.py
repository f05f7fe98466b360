"""LlamaIndex, streaming: retrieval-augmented generation, and a chat engine."""

from llama_index.core import Document, Settings, VectorStoreIndex
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI

Settings.llm = OpenAI(model="gpt-4o-mini")
Settings.embed_model = OpenAIEmbedding(model="text-embedding-3-small")
index = VectorStoreIndex.from_documents([Document(text="A weir meters a river.", doc_id="d1"), Document(text="No.")])
assert "".join(index.as_query_engine(streaming=True).query("What does a weir do?").response_gen)
