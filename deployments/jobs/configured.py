"""The service's own configuration, for a job: as it was submitted, or as its Serve file has it. Knows no Ray."""

from pathlib import Path

from configs.load import carried_config, load_config
from configs.schema import AppConfig, GraphArgs
from serve_app.errors import InvalidConfig
from serve_app.local_graph import default_serve_file, read_serve_file

# Where Ray unpacks what `--working-dir` sends.
RAYS_COPIES = "/runtime_resources/working_dir_files/"


def job_configuration(serve_file: Path | None, profile: str | None) -> AppConfig:
    """As it was submitted, else profile and overrides of the Serve file, or of another profile.

    Raises InvalidConfig also for a table in the working folder of `ray job submit`.
    """
    if (submitted := carried_config()) is not None:
        return submitted
    config = service_configuration(serve_file, profile)
    if RAYS_COPIES in config.table.uri:
        raise InvalidConfig(
            "table.uri is relative, and the working folder of a job is a copy that Ray deletes: give the job an absolute "
            "path or a bucket, or CROSSMODAL_HOME, in the env_vars of its runtime_env"
        )
    return config


def service_configuration(serve_file: Path | None, profile: str | None) -> AppConfig:
    """What the graph of this Serve file, or of the default one, runs with. Raises InvalidConfig."""
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
