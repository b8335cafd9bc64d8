from pathlib import Path

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from configs.load import PROFILES, carried, carried_config, load_config
from configs.schema import AppConfig, GraphArgs
from serve_app.errors import InvalidConfig

ROOT = Path(__file__).parents[3]
SERVE_FILES = [ROOT / "serve_config.yaml", *sorted((ROOT / "configs" / "serve").glob("*.yaml"))]
DEPLOYMENTS = {"Gateway", "Preprocessor", "ImageEncoder", "TextEncoder", "Retriever", "Indexer"}


@pytest.mark.parametrize("profile", sorted(path.stem for path in PROFILES.glob("*.yaml")))
def test_every_profile_is_valid(profile: str) -> None:
    assert load_config(profile, environment={}).table.uri


def test_later_layers_win_and_relative_paths_start_at_home() -> None:
    config = load_config(
        "demo",
        {"table": {"name": "mine", "uri": "from/overrides"}},
        {
            "CROSSMODAL_TABLE__URI": "from/environment",
            "CROSSMODAL_HOME": "/data",
            "CROSSMODAL_HTTP__MAX_DOCUMENTS": "7",
        },
    )
    assert (config.table.name, config.table.uri, config.http.max_documents) == ("mine", "/data/from/environment", 7)
    assert load_config("demo", {"table": {"uri": "s3://b/t"}}, {}).table.uri == "s3://b/t"


def test_a_checkpoint_is_found_from_home_and_a_tag_stays_a_tag() -> None:
    def pretrained(value: str) -> str | None:
        given = {"model": "ViT-B-32", "pretrained": value}
        return load_config("demo", {"encoder": given}, {"CROSSMODAL_HOME": "/data"}).encoder.pretrained

    assert (pretrained("models/b32.pt"), pretrained("laion2b_s34b_b79k")) == (
        "/data/models/b32.pt",
        "laion2b_s34b_b79k",
    )


@pytest.mark.parametrize(
    ("profile", "overrides", "environment", "named"),
    [
        ("nobody", {}, {}, "nobody"),
        ("demo", {"table": {"url": "x"}}, {}, "table.url"),
        ("demo", {"tabel": {"uri": "x"}}, {}, "tabel"),
        ("demo", {"search": {"max_limit": 0}}, {}, "search.max_limit"),
        ("demo", {}, {"CROSSMODAL_TABLE": "x"}, "CROSSMODAL_TABLE"),
    ],
)
def test_a_wrong_key_is_named(
    profile: str, overrides: dict[str, dict[str, object]], environment: dict[str, str], named: str
) -> None:
    with pytest.raises(InvalidConfig, match=named):
        load_config(profile, overrides, environment)


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        AppConfig().table.uri = "elsewhere"  # type: ignore[misc]


@pytest.mark.parametrize("path", SERVE_FILES, ids=lambda path: path.name)
def test_a_serve_file_fits_serves_own_schema_and_sets_every_deployment_by_itself(path: Path) -> None:
    (application,) = ServeDeploySchema.model_validate(yaml.safe_load(path.read_text())).applications
    args = GraphArgs.model_validate(application.args)
    assert load_config(args.profile, args.overrides, {})
    given = {deployment.name: deployment.model_dump(exclude_unset=True) for deployment in application.deployments}
    assert set(given) == DEPLOYMENTS
    for name, settings in given.items():
        wanted = {
            "max_ongoing_requests",
            "max_queued_requests",
            "autoscaling_config",
            "ray_actor_options",
            "health_check_period_s",
        }
        assert wanted <= set(settings), name
        assert settings["max_queued_requests"] > 0, name
    assert given["Indexer"]["autoscaling_config"]["max_replicas"] == 1


@pytest.mark.parametrize("path", SERVE_FILES, ids=lambda path: path.name)
def test_a_part_that_its_callers_keep_busy_gets_more_replicas(path: Path) -> None:
    (application,) = ServeDeploySchema.model_validate(yaml.safe_load(path.read_text())).applications
    args = GraphArgs.model_validate(application.args)
    calls = load_config(args.profile, args.overrides, {}).calls
    scaling = {each.name: each.autoscaling_config for each in application.deployments}
    under_way = {
        "TextEncoder": ("Gateway", calls.max_in_flight),
        "Retriever": ("Gateway", calls.max_in_flight),
        "Preprocessor": ("Gateway", calls.max_picture_calls),
        "ImageEncoder": ("Preprocessor", calls.max_picture_calls),
    }
    for part, (caller, of_each) in under_way.items():
        most = of_each * scaling[caller]["max_replicas"]
        wanted = most / scaling[part]["target_ongoing_requests"]
        assert wanted > scaling[part]["min_replicas"], f"{part} would never grow"


def test_gpus_are_a_matter_of_configuration_alone() -> None:
    def gpus(path: Path) -> dict[str, float]:
        (application,) = ServeDeploySchema.model_validate(yaml.safe_load(path.read_text())).applications
        return {each.name: each.ray_actor_options.model_dump().get("num_gpus") or 0 for each in application.deployments}

    assert set(gpus(ROOT / "serve_config.yaml").values()) == {0}
    assert {name for name, share in gpus(ROOT / "configs/serve/gpu.yaml").items() if 0 < share < 1} == {
        "ImageEncoder",
        "TextEncoder",
    }


def test_exact_to_openclip_and_fast_decoding_are_not_promised_together() -> None:
    with pytest.raises(InvalidConfig, match="decode: fast"):
        load_config("demo", {"pictures": {"exact": "openclip", "decode": "fast"}}, {})


@pytest.mark.parametrize("profile", sorted(path.stem for path in PROFILES.glob("*.yaml")))
def test_a_configuration_that_is_carried_elsewhere_arrives_whole(profile: str) -> None:
    config = load_config(profile, {"table": {"uri": "s3://b/t"}, "storage": {"options": {"region": "é"}}}, {})
    assert carried_config(carried(config)) == config
    assert carried_config({}) is None
