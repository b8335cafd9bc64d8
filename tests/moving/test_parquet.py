"""Export to Parquet and import again: the same rows bit for bit, whatever they hold; and what is broken is said, row by row."""

import asyncio
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.schema import AppConfig
from serve_app.core.manifests import manifest_from_json
from serve_app.core.records import vectors_of
from serve_app.errors import (
    DestinationConflict,
    FingerprintMismatch,
    InvalidField,
    InvalidSource,
    JobFailed,
    SourceNotFound,
)
from serve_app.types import Modality
from tests.contract.rows import DIMENSION, ENCODER, TUESDAY, record
from tests.moving.conftest import awkward_records, filled, opened, rows_of, run_export, run_import, unit_rows

Configs = Callable[..., AppConfig]


def same_rows(left: pa.Table, right: pa.Table) -> bool:
    """To the last bit of every vector, in every column."""
    plain = [name for name in left.column_names if name != "vector"]
    return (
        left.column_names == right.column_names
        and left.select(plain).equals(right.select(plain))
        and vectors_of(left).tobytes() == vectors_of(right).tobytes()
    )


def test_awkward_rows_come_back_as_they_were(config_of: Configs, tmp_path: Path) -> None:
    here, there = config_of("here"), config_of("there")
    filled(here, awkward_records())
    manifest = run_export(here, tmp_path / "export")
    arrival = run_import(there, tmp_path / "export")
    assert manifest.counts == {Modality.TEXT: 4, Modality.IMAGE: 1, Modality.IMAGE_TEXT: 1, Modality.VIDEO_FRAME: 2}
    assert arrival.stored == manifest.counts
    assert (arrival.failed, arrival.unchanged) == (0, 0)
    assert same_rows(rows_of(here), rows_of(there))


def test_no_metadata_stays_null_and_the_calibration_comes_along(config_of: Configs, tmp_path: Path) -> None:
    here, there = config_of("here"), config_of("there")
    filled(here, awkward_records())
    run_import(here, _exported(here, tmp_path / "first"))  # a look after the table calibrates it
    run_export(here, tmp_path / "export")
    run_import(there, tmp_path / "export")
    before, after = asyncio.run(opened(here).calibration()), asyncio.run(opened(there).calibration())
    assert before.version > 0
    assert (before.version, before.row_counts, before.pair_scores) == (
        after.version,
        after.row_counts,
        after.pair_scores,
    )
    assert all(before.means[each].tobytes() == after.means[each].tobytes() for each in before.means)
    assert pq.read_table(tmp_path / "export" / "documents-00000.parquet").column("metadata").null_count == 6


def test_an_import_again_changes_nothing(config_of: Configs, tmp_path: Path) -> None:
    here, there = config_of("here"), config_of("there")
    filled(here, awkward_records())
    run_export(here, tmp_path / "export")
    run_import(there, tmp_path / "export")
    version = asyncio.run(opened(there).info()).version
    arrival = run_import(there, tmp_path / "export", commit_rows=3)
    assert (arrival.stored.total(), arrival.unchanged) == (0, 8)
    assert same_rows(rows_of(here), rows_of(there))
    assert asyncio.run(opened(there).info()).version - version <= 4  # upkeep alone


def test_rows_that_changed_since_are_made_as_they_were(config_of: Configs, tmp_path: Path) -> None:
    here = config_of("here")
    filled(here, awkward_records())
    run_export(here, tmp_path / "export")
    before = rows_of(here)
    filled(here, [record("new"), record("plain", text="another")])
    arrival = run_import(here, tmp_path / "export")
    assert (arrival.stored.total(), arrival.replaced, arrival.unchanged) == (1, 1, 7)
    after = rows_of(here)
    assert len(after) == 9
    assert same_rows(before, after.filter(pa.array([each != "new" for each in after.column("id").to_pylist()])))


def test_an_export_has_several_files_and_row_groups_and_true_checksums(
    config_of: Configs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve_app.adapters.exchange.parquet.GROUP_ROWS", 10)
    monkeypatch.setattr("serve_app.adapters.exchange.parquet.ParquetSink.__init__.__defaults__", (20,))
    here, there = config_of("here"), config_of("there")
    filled(here, [record(f"{at:03}", each) for at, each in enumerate(unit_rows(75))])
    manifest = run_export(here, tmp_path / "export")
    assert [file.rows for file in manifest.files] == [20, 20, 20, 15]
    assert pq.ParquetFile(tmp_path / "export" / manifest.files[0].name).metadata.num_row_groups == 2
    sums = "".join(f"{file.sha256}  {file.name}\n" for file in manifest.files)
    subprocess.run(["sha256sum", "-c"], input=sums.encode(), cwd=tmp_path / "export", check=True, capture_output=True)
    run_import(there, tmp_path / "export")
    assert same_rows(rows_of(here), rows_of(there))


def test_other_programs_read_the_files_as_they_are(config_of: Configs, tmp_path: Path) -> None:
    here = config_of("here")
    filled(here, awkward_records())
    run_export(here, tmp_path / "export")
    frame = pandas.read_parquet(tmp_path / "export" / "documents-00000.parquet").set_index("id")
    assert list(frame.loc["plain"].tags) == ["sea", "night"]
    assert np.stack(frame.vector.tolist()).shape == (8, DIMENSION)


def test_a_part_of_the_table_is_exported_by_filter_and_modality(config_of: Configs, tmp_path: Path) -> None:
    here = config_of("here")
    filled(here, awkward_records())
    cheap = run_export(here, tmp_path / "cheap", filter='{"field": "price", "lt": 2}')
    assert (cheap.rows, cheap.whole) == (1, False)
    frames = run_export(here, tmp_path / "frames", modality=("video_frame", "image"))
    assert frames.counts == {Modality.IMAGE: 1, Modality.VIDEO_FRAME: 2}


def test_what_is_written_meanwhile_is_not_in_the_export(config_of: Configs) -> None:
    here = config_of("here")
    filled(here, [record(f"{at}") for at in range(50)])

    async def read() -> tuple[int, int]:
        table = opened(here)
        frozen = await table.frozen()
        seen = 0
        async for rows in frozen.all_rows(10):
            seen += len(rows)
            await table.upsert([record(f"later {seen}")], {}, TUESDAY)
        return seen, (await frozen.info()).version

    version = asyncio.run(opened(here).info()).version
    assert asyncio.run(read()) == (50, version)


def test_a_table_of_another_encoder_takes_nothing_and_says_the_way_out(config_of: Configs, tmp_path: Path) -> None:
    here, there = config_of("here"), config_of("there")
    filled(here, awkward_records())
    run_export(here, tmp_path / "export")
    asyncio.run(opened(there).create(replace(ENCODER, model="other", fingerprint="0" * 64)))
    with pytest.raises(FingerprintMismatch, match=r"ffffffffffff.*000000000000.*--into.*reindex"):
        run_import(there, tmp_path / "export")
    assert not any(asyncio.run(opened(there).info()).counts.values())
    arrival = run_import(there, tmp_path / "export", into="documents.moved")
    assert arrival.stored.total() == 8
    assert same_rows(rows_of(here), rows_of(there, "documents.moved"))


def test_fields_that_the_table_has_not_are_refused_before_anything_is_written(
    config_of: Configs, tmp_path: Path
) -> None:
    here, there = config_of("here"), config_of("there", fields={"price": "float"})
    filled(here, awkward_records())
    run_export(here, tmp_path / "export")
    with pytest.raises(InvalidField, match=r"table\.fields \(tags: strings, seen_at: timestamp, count: integer\)"):
        run_import(there, tmp_path / "export")


def test_broken_rows_are_reported_and_the_rest_is_stored(config_of: Configs, tmp_path: Path) -> None:
    here, there = config_of("here"), config_of("there")
    filled(here, [record(f"{at:02}", each) for at, each in enumerate(unit_rows(12))])
    folder = _exported(here, tmp_path / "export")
    file = folder / "documents-00000.parquet"
    rows = pq.read_table(file)
    values = {name: rows.column(name).to_pylist() for name in rows.column_names}
    values["vector"][1] = [float("nan")] * DIMENSION
    values["vector"][2] = [0.0] * DIMENSION
    values["modality"][3] = "smell"
    values["metadata"][4] = "{no json"
    values["metadata"][5] = "[1]"
    values["id"][6] = ""
    values["id"][7] = "11"
    pq.write_table(pa.table(values, schema=rows.schema), file)
    arrival = run_import(there, folder, failures=tmp_path / "failures.jsonl")
    assert rows_of(there).column("id").to_pylist() == ["00", "08", "09", "10", "11"]
    lines = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_text().splitlines()]
    assert [(line["place"].partition("#")[2], line["code"]) for line in lines] == [
        ("1", "invalid_vector"),
        ("2", "invalid_vector"),
        *((str(at), "invalid_row") for at in range(3, 8)),
    ]
    assert arrival.failed == 7
    with pytest.raises(JobFailed, match="7 rows failed, and --max-failures allows 6"):
        run_import(there, folder, max_failures=6)


def test_a_damaged_row_group_fails_alone(config_of: Configs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_app.adapters.exchange.parquet.GROUP_ROWS", 10)
    here, there = config_of("here"), config_of("there")
    filled(here, [record(f"{at:03}", each) for at, each in enumerate(unit_rows(30))])
    folder = _exported(here, tmp_path / "export")
    file = folder / "documents-00000.parquet"
    group = pq.ParquetFile(file).metadata.row_group(1)
    vectors = next(
        group.column(at) for at in range(group.num_columns) if group.column(at).path_in_schema.startswith("vector")
    )
    data = bytearray(file.read_bytes())
    data[vectors.data_page_offset + vectors.total_compressed_size // 2] ^= 1
    file.write_bytes(data)
    arrival = run_import(there, folder)
    assert (arrival.stored.total(), arrival.failed) == (20, 10)
    (failure,) = arrival.failures
    assert (failure.place, failure.failure.code) == ("documents-00000.parquet#10", "unreadable_source")


def test_what_is_no_export_is_said(config_of: Configs, tmp_path: Path) -> None:
    here = config_of("here")
    filled(here, awkward_records())
    folder = _exported(here, tmp_path / "export")
    with pytest.raises(DestinationConflict):
        run_export(here, folder)
    run_export(here, tmp_path / "other")
    (tmp_path / "other" / "documents-00000.parquet").replace(folder / "documents-00000.parquet")
    (failure,) = run_import(config_of("there"), folder).failures
    assert (failure.rows, failure.failure.code) == (8, "invalid_source")
    (folder / "manifest.json").unlink()
    with pytest.raises(SourceNotFound, match=r"manifest\.json is missing"):
        run_import(here, folder)
    (folder / "manifest.json").write_text('{"format": "crossmodal-export-9"}')
    with pytest.raises(InvalidSource, match="crossmodal-export-9"):
        run_import(here, folder)


def _exported(config: AppConfig, folder: Path) -> Path:
    manifest = run_export(config, folder)
    assert manifest_from_json((folder / "manifest.json").read_bytes()).files == manifest.files
    return folder
