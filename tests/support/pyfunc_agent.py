"""A custom MLflow PyFunc agent, as models-from-code."""

from typing import Any

import mlflow
from mlflow.pyfunc import PythonModel

import spanweir.instrumentation as spanweir
from spanweir.instrumentation import serving

serving.enable()


class Agent(PythonModel):
    @spanweir.agent("served")
    def predict(
        self, context: Any, model_input: list[dict[str, str]], params: dict[str, Any] | None = None
    ) -> list[str]:
        with spanweir.chat("gpt-4o-mini", provider="openai", input=model_input[0]["question"]) as call:
            call.set_output("a weir")
            call.set_usage(3, 2)
        return ["a weir"]


mlflow.models.set_model(Agent())
