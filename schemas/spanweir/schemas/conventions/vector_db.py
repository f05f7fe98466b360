"""Vector databases as OpenLLMetry instruments them (Chroma, Pinecone, Milvus, Qdrant, Weaviate, LanceDB): a query is a
retrieval whose documents stand in span events. Source: opentelemetry-instrumentation-chromadb and siblings.
"""

from typing import Any

from spanweir.schemas.convention import NATIVE, Convention, Fields, Occurrence, rules
from spanweir.schemas.genai import Doc, GenAISpan, Retrieval
from spanweir.schemas.messages import parse
from spanweir.schemas.notes import Notes, first
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import count, number, text

_READS = ("query", "search", "get", "retrieve", "near_text", "hybrid")


def read_events(occurrences: list[Occurrence], notes: Notes) -> Fields:
    """One event for each result, nearest first."""
    found: list[Doc] = []
    for one in occurrences:
        held = {key.rsplit(".", 1)[-1]: value for key, value in one.attributes.items()}
        score = number(held.get("score"))
        metadata = parse(held.get("metadata", held.get("entity", held.get("payload"))), notes)
        found.append(
            Doc(
                text(held.get("document")) or _content(metadata),
                text(held.get("id")),
                score=score if score is not None else number(held.get("distance")),
                metadata=metadata,
            )
        )
    return {"documents": [doc for doc in found if doc.content or doc.id or doc.metadata]}


def _content(metadata: Any) -> str | None:
    """The text of a document in a database that has fields and no documents (Pinecone, Milvus, Qdrant): applications
    and frameworks keep it under a few names."""
    if not isinstance(metadata, dict):
        return None
    said = first(metadata, "text", "page_content", "content", "chunk", "chunk_text", "document", "body")
    return said if isinstance(said, str) and said else None


def operation(raw: RawSpan) -> str:
    """`db.operation`, else the last part of a name like `chroma.query`."""
    return str(raw.attributes.get("db.operation") or raw.name.rsplit(".", 1)[-1]).lower()


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """Only queries retrieve; adding documents is a plain database call."""
    if span.kind in ("other", "retrieval"):
        reads = any(operation(raw).startswith(word) for word in _READS)
        span.kind = "retrieval" if reads or span.documents else "other"
    if span.kind == "retrieval" and span.retrieval is None:
        span.retrieval = Retrieval()


CONVENTION = Convention(
    name="vector_db",
    marks=(
        "db.vector.",
        "db.chroma.",
        "db.milvus.",
        "db.pinecone.",
        "pinecone.",
        "db.qdrant.",
        "db.weaviate.",
        "db.lancedb.",
        "db.marqo.",
    ),
    scopes=tuple(
        f"opentelemetry.instrumentation.{name}"
        for name in ("chromadb", "pinecone", "milvus", "qdrant", "weaviate", "lancedb", "marqo")
    ),
    rank=NATIVE,
    rules=rules(
        {
            "db.vector.query.top_k": ("retrieval.top_k", count),
            "db.chroma.query.n_results": ("retrieval.top_k", count),
            "db.milvus.search.limit": ("retrieval.top_k", count),
            "db.qdrant.search.limit": ("retrieval.top_k", count),
            "db.qdrant.query_points.limit": ("retrieval.top_k", count),
            "pinecone.query.top_k": ("retrieval.top_k", count),
            "db.vector.query.content": ("retrieval.query", text),
            "db.collection.name": ("retrieval.data_source_id", text),
            "db.vector.query.filter": ("retrieval.filter", text),
        }
    ),
    events=("db.query.result", "db.search.result"),
    read_events=read_events,
    refine=refine,
)
