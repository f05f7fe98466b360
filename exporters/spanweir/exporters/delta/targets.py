"""Which tables a configuration writes, and where."""

from spanweir.exporters.delta import Config
from spanweir.exporters.delta.table import Target
from spanweir.schemas import inference_table
from spanweir.schemas.inference_table import Table


def specs(config: Config) -> dict[str, Table]:
    """The tables that are written, by their name in `tables`."""
    version = config.schema_version
    every: dict[str, Table] = {
        "spans": inference_table.spans(version, received=config.attributes == "received"),
        "logs": inference_table.logs(version),
        "metrics": inference_table.metrics(version),
        "annotations": inference_table.annotations(version),
        "payload": inference_table.PAYLOAD,
    }
    return {name: spec for name, spec in every.items() if name in config.tables}


def targets(config: Config, app: str) -> dict[str, Target]:
    """The tables of a configuration, not opened yet. `app` prefixes the Delta transaction app ids."""
    leveled = config.compression in ("zstd", "gzip") and config.compression_level is not None
    compression = f"{config.compression}({config.compression_level})" if leveled else config.compression
    properties = {
        "delta.targetFileSize": str(int(config.target_file_bytes)),
        "delta.logRetentionDuration": f"interval {int(config.log_retention)} seconds",
        "delta.deletedFileRetentionDuration": f"interval {int(config.vacuum_retention)} seconds",
    }
    return {
        name: Target(
            spec,
            config.table_uri(spec.suffix),
            storage_options=config.storage_options,
            app_id=f"{app}/{spec.suffix}",
            properties=properties,
            compression=compression,
        )
        for name, spec in specs(config).items()
    }
