"""crossmodal snapshot and crossmodal table, against the service over fakes."""

import asyncio

import pytest
from typer.testing import CliRunner

from serve_app.cli import app
from tests.http.conftest import app_of
from tests.http.serving import serving
from tests.unit.services.conftest import make_system


@pytest.fixture
def run():
    system = make_system()
    asyncio.run(system.status.readiness())
    with serving(app_of(system)) as url:

        def command(*words):
            return CliRunner().invoke(app, [*words, "--url", url], env={"COLUMNS": "200"})

        yield command


def test_a_snapshot_is_made_listed_restored_and_deleted(run):
    assert "there are no snapshots" in run("snapshot", "list").output
    assert (
        "kept 0 documents as before-the-import (table version 1)"
        in run("snapshot", "create", "before-the-import").output
    )
    listed = run("snapshot", "list")
    assert listed.exit_code == 0
    assert "before-the-import" in listed.output
    assert "ffffffffffff" in listed.output
    assert "as before-the-import kept it (table version 2)" in run("snapshot", "restore", "before-the-import").output
    assert "deleted" in run("snapshot", "delete", "before-the-import").output
    failed = run("snapshot", "restore", "before-the-import")
    assert failed.exit_code == 1
    assert "snapshot_not_found" in failed.output


def test_tables_are_listed_and_taken_into_service(run):
    assert "documents" in run("table", "list").output
    assert "documents is in service (table version 1)" in run("table", "use", "documents").output
    failed = run("table", "drop", "documents")
    assert failed.exit_code == 1
    assert "table_conflict" in failed.output
    assert "table_not_found" in run("table", "use", "nobody").output


def test_a_search_says_as_of_when(run):
    assert "snapshot_not_found" in run("search", "--as-of", "nobody", "cat").output
