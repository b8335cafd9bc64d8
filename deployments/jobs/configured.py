"""The service's own configuration, for a job: profile and overrides of its Serve file, unless another profile is named."""

from pathlib import Path

from configs.load import load_config
from configs.schema import AppConfig, GraphArgs
from serve_app.local_graph import default_serve_file, read_serve_file


def service_config(serve_file: Path | None, profile: str | None) -> AppConfig:
    """Raises InvalidConfig."""
    file = read_serve_file(serve_file or default_serve_file(), profile)
    graph = GraphArgs.model_validate(file.content["applications"][0].get("args") or {})
    return load_config(graph.profile, graph.overrides)


def options_for(uri: str, config: AppConfig) -> dict[str, str]:
    """Those of the storage of pictures, or of the table, if they lie in the same kind of storage; else the environment's."""
    scheme = uri.partition("://")[0] if "://" in uri else "file"
    for known in (config.storage, config.table):
        if known.uri.startswith(f"{scheme}://"):
            return dict(known.options)
    return {}
