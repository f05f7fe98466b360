"""`autolog` and the distro with the real libraries, each group in a virtual environment of its own.

The environments are made once and kept in `SPANWEIR_LIBRARY_VENVS` (default: the temporary directory), because that
takes minutes. The libraries talk to a local server; nothing leaves the machine.
"""

import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_models import ANSWER, serve
from tests.support.otlp_sink import Sink, attributes, sink

pytestmark = [pytest.mark.external, pytest.mark.slow, pytest.mark.timeout(900)]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
VENVS = Path(os.environ.get("SPANWEIR_LIBRARY_VENVS") or Path(tempfile.gettempdir()) / "spanweir-library-venvs")
AUTOLOG = """
import os, runpy, spanweir.instrumentation as spanweir
done = spanweir.autolog(*os.environ["LIBRARIES"].split(",")) if os.environ["LIBRARIES"] else spanweir.autolog()
print("instrumented", *done)
runpy.run_path(os.environ["APP"], run_name="__main__")
"""


@functools.cache
def environment(group: str) -> Path:
    """A virtual environment with the group's packages and this project; made when it is not there."""
    directory = VENVS / f"{group}-{sys.version_info[0]}.{sys.version_info[1]}"
    python = directory / "bin" / "python"
    if not (directory / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(directory)], check=True)
        base = ["opentelemetry-sdk", "opentelemetry-exporter-otlp", "opentelemetry-instrumentation"]
        command = [str(python), "-m", "pip", "install", "-q", *base, "-r", str(HERE / "requirements" / f"{group}.txt")]
        if subprocess.run(command, timeout=800, check=False).returncode:
            pytest.skip(f"the packages of {group} could not be installed")
        (directory / "complete").touch()
    subprocess.run([str(python), "-m", "pip", "install", "-q", "--no-deps", str(ROOT)], check=True, timeout=300)
    return directory


def run(group: str, app: str, receiver: Sink, *, libraries: str = "", zero_code: bool = False, **more: str) -> str:
    """The application's output. Its spans are in the receiver."""
    directory = environment(group)
    python = str(directory / "bin" / "python")
    with serve() as models:
        variables = {
            "PATH": f"{directory / 'bin'}:{os.environ['PATH']}",
            "HOME": str(directory),
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OPENAI_BASE_URL": f"{models.address}/v1",
            "OPENAI_API_BASE": f"{models.address}/v1",
            "ANTHROPIC_BASE_URL": models.address,
            "GOOGLE_GEMINI_BASE_URL": models.address,
            **dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"), "none"),
            "CREWAI_DISABLE_TELEMETRY": "true",
            "CREWAI_TRACING_ENABLED": "false",
            "LITELLM_LOCAL_MODEL_COST_MAP": "true",
            "APP": str(HERE / f"{app}_app.py"),
            "LIBRARIES": libraries,
            **more,
        }
        command = [python, "-c", AUTOLOG]
        if zero_code:
            command = [str(directory / "bin" / "opentelemetry-instrument"), python, variables["APP"]]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def tree(receiver: Sink) -> list[str]:
    """Span names by start time, indented by depth; a span whose parent is missing is marked."""
    spans = {span.span_id: span for span in receiver.spans}
    lines = []
    for span in sorted(spans.values(), key=lambda s: s.start_time_unix_nano):
        depth, at = 0, span
        while at.parent_span_id in spans:
            depth, at = depth + 1, spans[at.parent_span_id]
        lines.append("  " * depth + span.name + (" (orphan)" if at.parent_span_id else ""))
    return lines


def chats(receiver: Sink) -> list[dict[str, Any]]:
    return [a for a in map(attributes, receiver.spans) if a.get("gen_ai.operation.name") == "chat"]


def check_chats(receiver: Sink, count: int) -> None:
    """Every model call once, with content, model and tokens."""
    found = [span for span in chats(receiver) if "error.type" not in span]
    assert len(found) == count
    for span in found:
        assert json.loads(span["gen_ai.input.messages"])[-1]["parts"]
        assert json.loads(span["gen_ai.output.messages"])[0]["parts"]
        assert span["gen_ai.usage.input_tokens"] == 21
        assert span["gen_ai.usage.output_tokens"] == 9
        assert span["gen_ai.response.model"].endswith("-2026")


OPENAI_TREE = ["chat gpt-4o-mini", "chat gpt-4o-mini", "chat gpt-4o", "chat gpt-5-mini"]
OPENAI_TREE += ["embeddings text-embedding-3-small", "chat gpt-4o-mini"]
AGENT = ["  chat gpt-4o-mini", "  execute_tool weather", "  chat gpt-4o-mini"]


def test_openai() -> None:
    with sink() as receiver:
        assert run("direct", "openai", receiver, libraries="openai") == "instrumented openai\n"
    assert tree(receiver) == OPENAI_TREE
    check_chats(receiver, 4)
    streamed = chats(receiver)[1]
    assert streamed["gen_ai.response.time_to_first_chunk"] > 0
    assert ANSWER in streamed["gen_ai.output.messages"]
    assert "error.type" in chats(receiver)[-1]


def test_openai_without_any_code() -> None:
    with sink() as receiver:
        run("direct", "openai", receiver, zero_code=True)
    assert tree(receiver) == OPENAI_TREE
    check_chats(receiver, 4)


def test_openai_without_content() -> None:
    off = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "NO_CONTENT"}
    with sink() as receiver:
        run("direct", "openai", receiver, zero_code=True, **off)
    assert tree(receiver) == OPENAI_TREE
    assert not [span for span in chats(receiver) if "gen_ai.input.messages" in span or "gen_ai.output.messages" in span]


def test_disabled_again() -> None:
    code = "import spanweir.instrumentation as s; s.autolog('openai'); print(s.autolog('openai', disable=True));"
    directory = environment("direct")
    with sink() as receiver, serve() as models:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OPENAI_API_KEY": "none"}
        variables |= {"OPENAI_BASE_URL": f"{models.address}/v1", "APP": str(HERE / "openai_app.py")}
        code += "import os, runpy; runpy.run_path(os.environ['APP'])"
        command = [str(directory / "bin" / "python"), "-c", code]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
        assert receiver.spans == []
        assert len(models.requests) == 6


def test_anthropic() -> None:
    with sink() as receiver:
        run("direct", "anthropic", receiver, libraries="anthropic")
    assert tree(receiver) == ["chat claude-sonnet-4-5", "chat claude-sonnet-4-5", "chat claude-opus-4-5"]
    check_chats(receiver, 3)
    assert '"weather"' in chats(receiver)[-1]["gen_ai.output.messages"]


def test_google_genai() -> None:
    with sink() as receiver:
        run("direct", "google_genai", receiver, libraries="google_genai")
    assert len(receiver.spans) == 3
    for span in map(attributes, receiver.spans):
        assert span["llm.token_count.prompt"] == 21
        assert span["openinference.span.kind"] == "LLM"
        assert ANSWER.split()[0] in span["output.value"]


def test_langchain_and_langgraph() -> None:
    with sink() as receiver:
        assert run("langchain", "langchain", receiver) == "instrumented langchain openai\n"
    assert tree(receiver) == [
        "invoke_agent forecaster",
        *AGENT,
        "embeddings text-embedding-3-small",
        "invoke_workflow RunnableSequence",
        "  retrieval",
        "    embeddings text-embedding-3-small",
        "  chat gpt-4o-mini",
    ]
    check_chats(receiver, 3)
    assert '"d1"' in attributes(receiver.named("retrieval"))["gen_ai.retrieval.documents"]


def test_langchain_by_the_other_family() -> None:
    with sink() as receiver:
        run("langchain", "langchain", receiver, libraries="langchain", SPANWEIR_AUTOLOG_PREFER="openinference")
    assert not [line for line in tree(receiver) if line.endswith("(orphan)")]
    found = [attributes(span) for span in receiver.spans]
    assert len([a for a in found if a.get("openinference.span.kind") == "LLM"]) == 3
    assert not chats(receiver)
    assert "A weir meters a river." in str([a for a in found if a.get("openinference.span.kind") == "RETRIEVER"])


def test_llama_index() -> None:
    with sink() as receiver:
        assert run("llama", "llama_index", receiver) == "instrumented llama_index openai\n"
    lines = tree(receiver)
    assert not [line for line in lines if line.endswith("(orphan)")]
    found = [attributes(span) for span in receiver.spans]
    assert len([a for a in found if a.get("openinference.span.kind") == "LLM" and "gen_ai.response.id" in a]) == 3
    assert not [line for line in lines if line.strip().startswith("chat ")]
    assert "RetrieverQueryEngine.query" in lines
    assert "A weir meters a river." in str([a for a in found if a.get("openinference.span.kind") == "RETRIEVER"])


def check_streams(receiver: Sink, count: int) -> None:
    check_chats(receiver, count)
    assert all(span["gen_ai.response.time_to_first_chunk"] > 0 for span in chats(receiver))


def test_langchain_streams() -> None:
    with sink() as receiver:
        run("langchain", "langchain_stream", receiver)
    agent = ["invoke_agent forecaster", *AGENT]
    assert tree(receiver) == ["invoke_workflow RunnableSequence", "  chat gpt-4o-mini", *agent, *agent]
    check_streams(receiver, 5)


def test_llama_index_streams() -> None:
    with sink() as receiver:
        run("llama", "llama_index_stream", receiver)
    lines = tree(receiver)
    assert not [line for line in lines if line.endswith("(orphan)") or line.strip().startswith("chat ")]
    streamed = attributes(receiver.named("OpenAI.stream_chat"))
    assert streamed["gen_ai.response.time_to_first_chunk"] > 0
    assert ANSWER in streamed["llm.output_messages.0.message.content"]


def test_openai_agents_streams() -> None:
    with sink() as receiver:
        run("agents", "openai_agents_stream", receiver, libraries="openai_agents,openai")
    expected = ["invoke_workflow Agent workflow", "  invoke_agent forecaster", *("  " + line for line in AGENT)]
    assert tree(receiver) == expected
    check_streams(receiver, 2)


def test_pydantic_ai_streams() -> None:
    with sink() as receiver:
        run("agents", "pydantic_ai_stream", receiver)
    assert tree(receiver) == ["invoke_agent forecaster", *AGENT]
    check_streams(receiver, 2)


def test_openai_agents() -> None:
    with sink() as receiver:
        run("agents", "openai_agents", receiver, libraries="openai_agents,openai")
    expected = ["invoke_workflow Agent workflow", "  invoke_agent forecaster", *("  " + line for line in AGENT)]
    assert tree(receiver) == expected
    check_chats(receiver, 2)


def test_pydantic_ai() -> None:
    with sink() as receiver:
        run("agents", "pydantic_ai", receiver)
    assert tree(receiver) == ["invoke_agent forecaster", *AGENT]
    check_chats(receiver, 2)


def test_crewai() -> None:
    with sink() as receiver:
        run("crewai", "crewai", receiver)
    lines = tree(receiver)
    assert lines[0].startswith("Crew_")
    assert lines[1:] == [
        "  Forecaster._execute_core",
        "    chat gpt-4o-mini",
        "    weather.run",
        "    chat gpt-4o-mini",
    ]
    check_chats(receiver, 2)


def test_dspy() -> None:
    with sink() as receiver:
        run("dspy", "dspy", receiver)
    lines = tree(receiver)
    assert lines[0] == "Predict.forward"
    assert "Rag.forward" in lines
    assert len([line for line in lines if line.strip() == "LM.__call__"]) == 2
    assert not [line for line in lines if line.endswith("(orphan)")]
