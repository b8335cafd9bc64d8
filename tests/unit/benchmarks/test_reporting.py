"""What a benchmark leaves behind."""

import json
import math

import pytest

from benchmarks.reporting import as_markdown, machine_facts, milliseconds, quantile, write_report

ROWS = [{"case": "one", "images_per_s": 31.26, "largest_difference": 1.2e-7}, {"case": "two", "p50_ms": 1234.5}]


def test_a_quantile_is_a_value_that_was_measured():
    assert quantile([3.0, 1.0, 2.0, 4.0], 0.5) == 2.0
    assert quantile([1.0], 0.95) == 1.0
    assert quantile(list(range(1, 101)), 0.95) == 95


def test_the_quantile_of_nothing_is_not_a_number():
    assert math.isnan(quantile([], 0.5))


def test_latencies_are_told_in_milliseconds():
    assert milliseconds([0.25]) == {"p50_ms": 250, "p95_ms": 250}


def test_a_report_is_json_that_names_machine_versions_and_settings(tmp_path):
    path = write_report("some", ROWS, {"threads": 2, "precision": "float32"}, folder=tmp_path)
    report = json.loads(path.read_text())
    assert path.name == "some.json"
    assert report["rows"] == ROWS
    assert report["machine"]["cores"] >= 1
    assert {"python", "torch", "ray"} <= set(report["versions"])
    assert report["settings"] == {"threads": 2, "precision": "float32"}


def test_the_table_has_every_column_and_the_conditions_below(tmp_path, capsys):
    write_report("some", ROWS, {"threads": 2}, machine={**machine_facts(), "cpu": "A Chip"}, folder=tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "| case | images_per_s | largest_difference | p50_ms |"
    assert lines[4] == "| one | 31.3 | 1.2e-07 | – |"
    assert lines[5] == "| two | – | – | 1,234 |"
    assert lines[7].startswith("A Chip, ")
    assert "threads 2" in lines[7]


@pytest.mark.parametrize(("value", "shown"), [(0.9996, "0.9996"), (0.99999, "0.99999"), (1.0, "1"), (0.0, "0")])
def test_a_cosine_near_one_is_not_rounded_to_one(value, shown):
    report = json.loads(json.dumps({"name": "x", "rows": [{"smallest_cosine": value}], **EMPTY}))
    assert as_markdown(report).splitlines()[4] == f"| {shown} |"


EMPTY = {
    "machine": {"cpu": "", "cores": 1, "flags": [], "load_1_min": 0},
    "settings": {},
    "versions": {},
    "commit": "",
    "made_at": "2026-11-24T00:00:00",
}
