"""The program behind `artifacts`: MLflow's artifact repositories, asked through standard input and output."""

import os
import sys
import tempfile
from pathlib import Path

import msgspec
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from spanweir.exporters.mlflow.artifacts import Upload, Uploaded
from spanweir.exporters.mlflow.messages import receive, send


def upload(task: Upload) -> None:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / task.name
        file.write_bytes(task.data)
        get_artifact_repository(task.location).log_artifact(str(file), artifact_path="attachments")


def main() -> None:
    # Whatever MLflow prints goes to standard error; the real standard output carries answers only.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while (body := receive(sys.stdin.buffer)) is not None:
        answer = Uploaded()
        try:
            upload(msgspec.msgpack.decode(body, type=Upload))
        except Exception as error:  # whatever a cloud's client raises
            answer.error = f"{type(error).__name__}: {error}"[:500]
        send(answers, answer)


if __name__ == "__main__":
    main()
