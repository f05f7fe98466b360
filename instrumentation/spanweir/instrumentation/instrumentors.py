"""Instrumentors on and off: all that are installed, or single ones. Which stands for what is in `libraries`."""

import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Collection
from importlib.metadata import entry_points
from typing import Any

from spanweir.instrumentation import setup, state
from spanweir.instrumentation.libraries import LIBRARIES, Library
from spanweir.instrumentation.policy import CAPTURE_VARIABLE

_log = logging.getLogger(__name__)
_active: dict[str, Any] = {}
PREFER = "SPANWEIR_AUTOLOG_PREFER"


def autolog(*libraries: str, disable: bool = False, prefer: str | None = None) -> list[str]:
    """Instrument `libraries`, or every library that is installed; `disable=True` undoes it. `init()` if need be.

    `prefer` (or `SPANWEIR_AUTOLOG_PREFER`), `opentelemetry` or `openinference`, names the family that comes first where
    both are installed. OpenTelemetry's instrumentor for LangChain (1.3b0) records no text of retrieved documents;
    OpenInference's does, but hides its spans from the clients' instrumentors: instrument LangChain alone then.

    Returns:
        The names of the libraries that are instrumented now (of those asked for; with `disable`, of all).

    Raises:
        ValueError: a name that is not in the table.
        ModuleNotFoundError: a library that was named has no instrumentor installed; the message says what to install.
            Without names such libraries are passed over.
    """
    unknown = sorted(set(libraries) - LIBRARIES.keys())
    if unknown:
        raise ValueError(f"autolog({unknown[0]!r}): there are {', '.join(sorted(LIBRARIES))}")
    if disable:
        for name in libraries or tuple(_active):
            _disable(name)
        return sorted(_active)
    if prefer is not None:
        os.environ[PREFER] = prefer
    setup.init()
    content_variable()
    for name in libraries:
        _enable(name, required=True)
    if not libraries:
        enable_installed()
    return [name for name in (libraries or sorted(_active)) if name in _active]


def enable_installed(but: Collection[str] = ()) -> None:
    """Instrument every library that is installed, except some."""
    for name in LIBRARIES:
        if name not in but:
            _enable(name, required=False)


def content_variable() -> None:
    """Tell the instrumentors what `init` decided about content, in the form that all of them understand.

    util-genai 1.3b0 takes the older `true` for an invalid value and records nothing.
    """
    policy = state.policy()
    modes = {(True, False): "SPAN_ONLY", (False, True): "EVENT_ONLY", (True, True): "SPAN_AND_EVENT"}
    os.environ[CAPTURE_VARIABLE] = modes.get((policy.on_spans, policy.on_events), "NO_CONTENT")
    # instrumentations that still ask before they use the newest conventions
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental")
    if not policy.captures:
        for name in ("OPENINFERENCE_HIDE_INPUTS", "OPENINFERENCE_HIDE_OUTPUTS"):
            os.environ.setdefault(name, "true")


def active() -> list[str]:
    """The libraries that `autolog` has instrumented."""
    return sorted(_active)


def installed(module: str) -> bool:
    """Whether a module can be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def chosen(library: Library) -> str | None:
    """The first instrumentor that is installed and supports the installed version of the library."""
    family = os.environ.get(PREFER, "").strip().lower() or "in order"
    for candidate in sorted(library.instrumentors, key=lambda target: not target.startswith(family)):
        if candidate.startswith("native:"):
            return candidate
        if installed(candidate.partition(":")[0]) and conflict(candidate) is None:
            return candidate
    return None


def conflict(target: str) -> str | None:
    """Why an installed instrumentor (`module:class`) cannot serve: it asks for another version of its library."""
    try:
        from opentelemetry.instrumentation.dependencies import get_dist_dependency_conflicts
    except ImportError:
        return "opentelemetry-instrumentation is not installed"
    for entry_point in entry_points(group="opentelemetry_instrumentor"):
        if entry_point.value == target and entry_point.dist is not None:
            found = get_dist_dependency_conflicts(entry_point.dist)
            # Nothing found is no conflict of versions: openinference-instrumentation-llama-index 4.6 names a package
            # that it does not need.
            return str(found) if found is not None and found.found is not None else None
    return None


def reason(library: Library) -> str:
    """Why `chosen` found nothing, and what to do."""
    for candidate in library.instrumentors:
        if installed(candidate.partition(":")[0]) and (why := conflict(candidate)):
            return f"{candidate.partition(':')[0]}: {why}"
    return f"pip install {library.package}"


def listed(target: str) -> bool:
    """Whether `autolog` decides about this instrumentor (`module:class`)."""
    return any(target in library.instrumentors for library in LIBRARIES.values())


def _enable(name: str, *, required: bool) -> None:
    if name in _active:
        return
    library = LIBRARIES[name]
    target = chosen(library)
    if not installed(library.module):
        if required:
            raise ModuleNotFoundError(f"autolog({name!r}): {library.module} is not installed")
        return
    if target is None:
        if required:
            raise ModuleNotFoundError(f"autolog({name!r}): no instrumentor for it: {reason(library)}")
        return
    try:
        if target.startswith("native:"):
            _active[name] = NATIVE[name](True)
            return
        module, _, attribute = target.partition(":")
        instrumentor = getattr(importlib.import_module(module), attribute)()
        if not getattr(instrumentor, "is_instrumented_by_opentelemetry", False):
            # `conflict` has looked, and knows more
            instrumentor.instrument(tracer_provider=state.provider(), skip_dep_check=True)
        _active[name] = instrumentor
    except Exception as error:
        if required:
            raise
        _log.warning("%s could not be instrumented by %s: %s", name, target, error)


def _disable(name: str) -> None:
    instrumentor = _active.pop(name, None)
    if instrumentor is None:
        return
    try:
        if callable(instrumentor):
            instrumentor(False)
        else:
            instrumentor.uninstrument()
    except Exception as error:
        _log.warning("%s could not be un-instrumented: %s", name, error)


def _pydantic_ai(on: bool) -> Callable[[bool], Any]:
    """Pydantic AI emits spans itself once it is asked to. It is not imported before the application does."""
    if on and "pydantic_ai" not in sys.modules and installed("wrapt"):
        import wrapt

        wrapt.register_post_import_hook(lambda module: _pydantic_ai("pydantic_ai" in _active), "pydantic_ai")
        return _pydantic_ai
    from pydantic_ai import Agent
    from pydantic_ai.models.instrumented import InstrumentationSettings

    if on:
        content = state.policy().captures
        settings = InstrumentationSettings(include_content=content, tracer_provider=state.provider())
        Agent.instrument_all(settings)
    else:
        Agent.instrument_all(False)
    return _pydantic_ai


NATIVE: dict[str, Callable[[bool], Any]] = {"pydantic_ai": _pydantic_ai}
