"""The README and docs/ are true to the letter: what they name exists, and what exists that a reader needs, they name."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import typer
import yaml
from starlette.routing import Route

from configs.schema import AppConfig
from serve_app.cli import app
from serve_app.errors import every_error
from serve_app.http.app import create_app
from serve_app.http.error_table import status_of

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)


def section(title: str) -> str:
    """What stands under a heading of the README, up to the next one."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, f"the README has no section {title!r}"
    return found[1]


def rows(title: str, header: str) -> list[list[str]]:
    """The cells of the section's table whose first heading is `header`, without the back quotes around a cell."""
    lines = iter(section(title).splitlines())
    assert any(line.startswith(f"| {header} |") for line in lines), f"no table with {header!r} under {title!r}"
    next(lines)
    found = []
    for line in lines:
        if not line.startswith("|"):
            break
        found.append([cell.strip().removeprefix("`").removesuffix("`") for cell in line.strip("|").split(" | ")])
    return found


def tree() -> Iterator[str]:
    """The paths that the README's tree names; a folder's entries are indented by two spaces more than itself."""
    block = re.search(r"```\n(README\.md .*?)```", section("The tree"), re.DOTALL)
    assert block, "the tree is no block that begins with README.md"
    folders: list[str] = []
    for line in block[1].splitlines():
        entry = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        folders = [*folders[:depth], entry]
        yield "".join(folders)


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name]


def test_the_tree_names_only_what_exists() -> None:
    wrong = [path for path in tree() if not ((ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file())]
    assert not wrong


def test_everything_tracked_at_the_top_stands_in_the_tree() -> None:
    top = {name.split("/")[0] + ("/" if "/" in name else "") for name in tracked()}
    assert top <= set(tree())


@pytest.mark.parametrize("folder", ["serve_app", "deployments", "configs", "tests"])
def test_every_part_of_our_packages_stands_in_the_tree(folder: str) -> None:
    inside = [name.removeprefix(f"{folder}/") for name in tracked() if name.startswith(f"{folder}/")]
    parts = {f"{folder}/{name.split('/')[0]}" + ("/" if "/" in name else "") for name in inside}
    assert {part for part in parts if not part.endswith("__init__.py")} <= set(tree())


def test_the_endpoint_table_is_that_of_the_application() -> None:
    nothing = cast(Any, None)
    served = {
        f"{method} {re.sub(r':[a-z_]+}', '}', route.path)}"
        for route in cast(list[Route], create_app(*[nothing] * 7).routes)
        for method in (route.methods or set()) - {"HEAD"}
    }
    written = [call for call, _ in rows("HTTP", "call")]
    assert sorted(written) == sorted(served)


def test_the_configuration_table_has_every_key_with_its_default() -> None:
    written = {key: yaml.safe_load(default) for key, default, _ in rows("Configuration", "key")}
    defaults = {
        f"{section}.{key}": value
        for section, values in AppConfig().model_dump(mode="json").items()
        for key, value in values.items()
    }
    assert written == defaults
    assert len(written) == len(rows("Configuration", "key")), "a key stands there twice"


def test_the_error_table_has_every_code_with_its_status() -> None:
    written = [(code, int(status)) for code, status, _ in rows("Errors", "code")]
    assert sorted(written) == sorted((error.code, status_of(error)) for error in every_error())


def test_every_make_target_of_the_readme_is_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make (\w+)", README, re.MULTILINE))
    assert {"demo", "test"} <= set(re.findall(r"^make (\w+)", section("Two commands"), re.MULTILINE))
    assert named <= targets


def test_every_option_of_the_command_line_stands_in_its_table() -> None:
    written: dict[str, set[str]] = {}
    for command, *options in rows("The command line", "command"):
        name = " ".join(re.findall(r"(?<![\[.A-Z])\b[a-z]+\b", command))
        written.setdefault(name, set()).update(re.findall(r"--[a-z-]+", " ".join(options)))
    commands = cast(Any, typer.main.get_command(app)).commands
    for name, command in list(commands.items()):
        for part, below in getattr(command, "commands", {}).items():
            commands[f"{name} {part}"] = below
            commands.pop(name, None)
    assert written == {
        name: {option for each in command.params for option in each.opts if option.startswith("--")}
        for name, command in commands.items()
    }


@page
def test_links_to_files_of_ours_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    assert not [link for link in links if "://" not in link and not (page.parent / link).exists()]


@page
def test_every_file_of_ours_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(r"`((?:serve_app|deployments|configs|tests|docs)/[\w./-]*)`", page.read_text(encoding="utf-8"))
    assert named
    assert not [name for name in named if not (ROOT / name).exists()]


@page
def test_lines_fit_and_name_no_folder_of_one_machine(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not [line for line in text.splitlines() if len(line) > 130]
    assert not re.findall(r"(?<![\w:/.])/(?:home|root|tmp|work|Users|mnt)/", text)


def test_every_decision_is_one_paragraph_with_a_date_and_a_sentence() -> None:
    paragraphs = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8").strip().split("\n\n")[2:]
    assert len(paragraphs) >= 10
    assert not [text for text in paragraphs if not re.match(r"\*\*20\d\d-\d\d-\d\d · [^*]+\.\*\*\s\S", text)]
