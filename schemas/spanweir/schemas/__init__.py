"""The data model: raw OTLP spans, canonical GenAI spans, conventions, MLflow traces, inference-table rows. Pure."""
