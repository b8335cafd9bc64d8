"""The import rules of the architecture, read from the syntax trees: who may know whom, and who alone knows a library."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("serve_app", "deployments", "configs")
# Each package of ours and what of ours it may import; the longest name that fits decides.
MAY_IMPORT = {
    "serve_app.errors": (),
    "serve_app.types": (),
    "serve_app.ports": ("serve_app.types",),
    "serve_app.core": ("serve_app.core", "serve_app.types", "serve_app.errors"),
    "serve_app.services": (
        "serve_app.services",
        "serve_app.core",
        "serve_app.ports",
        "serve_app.types",
        "serve_app.errors",
    ),
    "serve_app.adapters": ("serve_app.core", "serve_app.types", "serve_app.errors"),
    # One adapter: the package knows torch, the two files beside it do not.
    "serve_app.adapters.open_clip": (
        "serve_app.adapters.open_clip",
        "serve_app.adapters.checkpoint",
        "serve_app.adapters.tokenising",
        "serve_app.types",
        "serve_app.errors",
    ),
    "serve_app.adapters.picture_decoder": (
        "serve_app.adapters.picture_decoder",
        "serve_app.core",
        "serve_app.types",
        "serve_app.errors",
    ),
    "serve_app.adapters.lance_table": (
        "serve_app.adapters.lance_table",
        "serve_app.core",
        "serve_app.types",
        "serve_app.errors",
    ),
    # Where several adapters meet: what lies in buckets, and in tables of ours.
    "serve_app.adapters.object_files": ("serve_app.adapters.object_store", "serve_app.errors"),
    "serve_app.adapters.job_records": (
        "serve_app.adapters.object_folder",
        "serve_app.core.jobs",
        "serve_app.types",
    ),
    "serve_app.adapters.object_folder": ("serve_app.adapters.object_store",),
    "serve_app.adapters.exchange.clip_retrieval": (
        "serve_app.adapters.exchange",
        "serve_app.adapters.object_files",
        "serve_app.adapters.sources",
        "serve_app.core",
        "serve_app.types",
        "serve_app.errors",
    ),
    "serve_app.adapters.object_writing": ("serve_app.adapters.object_folder", "serve_app.adapters.object_store"),
    "serve_app.adapters.exchange": (
        "serve_app.adapters.exchange",
        "serve_app.adapters.object_files",
        "serve_app.adapters.object_writing",
        "serve_app.core",
        "serve_app.types",
        "serve_app.errors",
    ),
    "serve_app.adapters.sources": (
        "serve_app.adapters.sources",
        "serve_app.adapters.lance_table",
        "serve_app.adapters.object_files",
        "serve_app.adapters.object_store",
        "serve_app.core",
        "serve_app.types",
        "serve_app.errors",
    ),
    "serve_app.adapters.corpora": ("serve_app.adapters.corpora", "serve_app.core.judgements", "serve_app.errors"),
    # A service that somebody runs is a third party, and the client is its library.
    "serve_app.adapters.evaluated_service": (
        "serve_app.client",
        "serve_app.core",
        "serve_app.types",
        "serve_app.errors",
    ),
    "serve_app.http": (
        "serve_app.http",
        "serve_app.services",
        "serve_app.core.failures",
        "serve_app.core.jobs",
        "serve_app.core.videos",
        "serve_app.types",
        "serve_app.errors",
    ),
    "serve_app.client": ("serve_app.client", "serve_app.errors"),
    "serve_app.contact_sheet": ("serve_app.client", "serve_app.errors"),
    "serve_app.local_graph": ("serve_app.client", "serve_app.errors", "serve_app.turns"),
    "serve_app.ways_in": ("serve_app.local_graph",),
    "serve_app.cli": (
        "serve_app.cli",
        "serve_app.client",
        "serve_app.contact_sheet",
        "serve_app.local_graph",
        "serve_app.ways_in",
        "serve_app.errors",
        "configs.load",
    ),
    # The one job that a command runs in its own process: it needs no cluster.
    "serve_app.cli.evaluate": (
        "serve_app.cli",
        "serve_app.services.evaluation_report",
        "deployments.jobs.evaluate",
    ),
    "serve_app.demo": ("serve_app.demo",),
    "serve_app.demo.run": (
        "serve_app.demo",
        "serve_app.cli",
        "serve_app.client",
        "serve_app.local_graph",
        "serve_app.ways_in",
        "serve_app.errors",
    ),
    "configs.schema": (),
    "configs.load": ("configs.schema", "serve_app.errors"),
    "deployments": ("deployments", "serve_app", "configs.schema"),
    "deployments.graph": ("deployments", "configs"),
    "deployments.jobs.submit": ("deployments", "serve_app", "configs"),
    "deployments.encoders": (
        "deployments",
        "serve_app.services",
        "serve_app.types",
        "serve_app.errors",
        "configs.schema",
    ),
    "deployments.jobs.evaluate": ("deployments.jobs", "serve_app", "configs.load"),
    "deployments.jobs.configured": ("configs", "serve_app.local_graph", "serve_app.errors"),
}
# Libraries that are imported in one place each.
ONLY_IN = {
    "torch": (
        "serve_app.adapters.open_clip",
        "serve_app.demo.train",
        "serve_app.demo.evaluate",
        "serve_app.demo.network",
    ),
    "open_clip": (
        "serve_app.adapters.open_clip",
        "serve_app.demo.train",
        "serve_app.demo.evaluate",
        "serve_app.demo.network",
    ),
    "lancedb": ("serve_app.adapters.lance_table",),
    "obstore": ("serve_app.adapters.object_store", "serve_app.adapters.object_writing"),
    "faiss": ("serve_app.adapters.exchange.faiss_index",),
    "ray": ("deployments",),
    "PIL": ("serve_app.adapters.picture_decoder", "serve_app.demo", "serve_app.contact_sheet"),
    "av": ("serve_app.adapters.video",),
    "matplotlib": ("serve_app.adapters.evaluation_plots",),
    "pillow_heif": ("serve_app.adapters.picture_decoder",),
    "starlette": ("serve_app.http", "deployments.gateway"),
}


def modules() -> dict[str, ast.Module]:
    found = {}
    for package in OURS:
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


MODULES = modules()


def imports(tree: ast.Module) -> Iterator[str]:
    """Every module that a tree imports, also inside functions; `from a import b` gives a.b where that is a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module


def is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def rule_of(module: str) -> tuple[str, ...] | None:
    fitting = [package for package in MAY_IMPORT if is_in(module, package)]
    return MAY_IMPORT[max(fitting, key=len)] if fitting else None


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_only_what_the_architecture_lets_it_know(module: str) -> None:
    allowed = rule_of(module)
    ours = {name for name in imports(MODULES[module]) if name.split(".")[0] in OURS}
    if allowed is None:
        assert not ours, f"{module} has no rule and imports {ours}"
    else:
        assert not {name for name in ours if not any(is_in(name, package) for package in allowed)}


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_a_library_is_imported_in_one_place(library: str) -> None:
    users = {name for name, tree in MODULES.items() if any(is_in(each, library) for each in imports(tree))}
    assert users
    assert not {user for user in users if not any(is_in(user, place) for place in ONLY_IN[library])}


def test_only_the_loader_of_the_configuration_reads_the_environment() -> None:
    readers = {
        name
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in {"environ", "getenv"}
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    }
    # Two set a variable that LanceDB reads, and read none; the workers of a job are told by one that it steps back; the ways in
    # depend on what Ray itself will read.
    others = {"deployments.replica", "deployments.jobs.export", "deployments.jobs", "serve_app.ways_in"}
    assert readers == {"configs.load", *others}


def test_the_builder_keeps_its_annotations() -> None:
    """With `from __future__ import annotations` Serve would silently pass a dict instead of GraphArgs."""
    assert "__future__" not in set(imports(MODULES["deployments.graph"]))
