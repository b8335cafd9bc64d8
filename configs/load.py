"""Reads profiles and the environment: the only place that does. Knows no meaning of any value.

Order, later wins: defaults of the schema, the profile, `overrides`, the environment. CROSSMODAL_TABLE__URI=s3://b/t sets
table.uri. Relative paths are taken from CROSSMODAL_HOME, or from the working folder of the process that reads the profile.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from configs.schema import AppConfig
from serve_app.errors import InvalidConfig

PROFILES = Path(__file__).parent
PREFIX = "CROSSMODAL_"
# Not settings: they say where things are, and which profile a command takes by default.
CARRIED = "CROSSMODAL_CONFIG"
RESERVED = frozenset({"CROSSMODAL_HOME", "CROSSMODAL_PROFILE", "CROSSMODAL_URL", CARRIED})


def load_config(
    profile: str = "demo",
    overrides: Mapping[str, Mapping[str, object]] | None = None,
    environment: Mapping[str, str] | None = None,
) -> AppConfig:
    """The configuration of a profile (a name in configs/ or a path). Raises InvalidConfig with every wrong key named."""
    environment = os.environ if environment is None else environment
    sections = _read(profile)
    for layer in (overrides or {}, _from_environment(environment)):
        for section, values in layer.items():
            sections[section] = {**sections.get(section, {}), **values}
    try:
        config = AppConfig.model_validate(sections)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise InvalidConfig(f"the configuration {profile!r} is wrong: {wrong}") from error
    return _absolute(config, Path(environment.get("CROSSMODAL_HOME") or Path.cwd()))


def carried(config: AppConfig) -> dict[str, str]:
    """The environment variable by which `carried_config` has all of it again, where no file of this machine is read."""
    return {CARRIED: config.model_dump_json()}


def carried_config(environment: Mapping[str, str] | None = None) -> AppConfig | None:
    """The configuration that a job was submitted with; None in a process that was given none."""
    content = (os.environ if environment is None else environment).get(CARRIED)
    return AppConfig.model_validate_json(content) if content else None


def default_profile() -> str | None:
    """The profile that commands take when none is named; None: the one in serve_config.yaml."""
    return os.environ.get("CROSSMODAL_PROFILE") or None


def service_url() -> str:
    """Where the command line looks for the service."""
    return os.environ.get("CROSSMODAL_URL", "http://127.0.0.1:8000")


def _read(profile: str) -> dict[str, dict[str, Any]]:
    path = Path(profile) if profile.endswith((".yaml", ".yml")) else PROFILES / f"{profile}.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        known = ", ".join(sorted(found.stem for found in PROFILES.glob("*.yaml")))
        raise InvalidConfig(f"there is no profile {profile!r}; there are: {known}") from error
    except yaml.YAMLError as error:
        raise InvalidConfig(f"the profile {profile!r} is not YAML: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(section, dict) for section in content.values()):
        raise InvalidConfig(f"the profile {profile!r} is not a mapping of sections to keys")
    return content


def _from_environment(environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    sections: dict[str, dict[str, Any]] = {}
    for name, value in environment.items():
        if name.startswith(PREFIX) and name not in RESERVED:
            section, separator, key = name.removeprefix(PREFIX).lower().partition("__")
            if not separator:
                raise InvalidConfig(f"{name} names no setting; settings look like {PREFIX}TABLE__URI")
            sections.setdefault(section, {})[key] = yaml.safe_load(value)
    return sections


def _absolute(config: AppConfig, home: Path) -> AppConfig:
    """Workers of a cluster have working folders of their own, so no relative path may reach them."""

    def anchored(location: str) -> str:
        return location if "://" in location else str((home / location).resolve())

    model = config.encoder.model
    if model.startswith("local-dir:"):
        model = "local-dir:" + anchored(model.removeprefix("local-dir:"))
    # A tag of OpenCLIP has no slash; what has one is the path of a checkpoint.
    pretrained = config.encoder.pretrained
    if pretrained and "/" in pretrained:
        pretrained = anchored(pretrained)
    return config.model_copy(
        update={
            "encoder": config.encoder.model_copy(
                update={"model": model, "pretrained": pretrained, "cache_dir": anchored(config.encoder.cache_dir)}
            ),
            "storage": config.storage.model_copy(update={"uri": anchored(config.storage.uri)}),
            "table": config.table.model_copy(update={"uri": anchored(config.table.uri)}),
        }
    )
