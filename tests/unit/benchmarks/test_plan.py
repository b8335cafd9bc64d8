"""The plan of sizes: its rules by hand-checked numbers, and that it says what the pages say."""

import re
from pathlib import Path

import pytest

from benchmarks import plan_figures as measured
from benchmarks.plan import DOCUMENTS, markdown, wanted_by
from benchmarks.plan_figures import FIGURES, Figure
from benchmarks.plan_model import (
    MONTH_S,
    Wanted,
    commit_s,
    index_bytes_of_a_row,
    loading,
    merging_s,
    month,
    one_table,
    search_ms,
    shards,
    storage,
)

ROOT = Path(__file__).parents[3]
MILLION = 1_000_000


def test_the_page_shows_what_the_command_prints():
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    shown = re.search(r"<!-- plan -->\n\n(.*)\n<!-- end of plan -->", page, re.DOTALL)
    assert shown
    assert shown[1] == markdown(wanted_by([])), "write the output of `python -m benchmarks.plan` into docs/scale.md"


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.what)
def test_every_figure_stands_on_the_page_that_it_names(figure: Figure):
    page = " ".join((ROOT / figure.page).read_text(encoding="utf-8").split())
    assert figure.quote in page


def test_at_a_million_documents_the_plan_is_what_was_measured():
    table = one_table(Wanted(MILLION))
    assert table.lists == 256
    assert table.search_ms == measured.SEARCH_MS.value
    assert table.build_s == table.build_s_at_worst == measured.INDEX_BUILD_S.value
    assert table.commit_s == measured.MERGE_S.value
    assert storage(Wanted(MILLION)).vector_index == measured.INDEX_BYTES.value


def test_at_a_hundred_thousand_it_is_near_what_was_measured_there():
    # 12 ms were measured: the plan takes what does not depend on the lists for the same at every size.
    assert search_ms(100_000, 512) == pytest.approx(12, rel=0.45)
    assert one_table(Wanted(100_000)).build_s == pytest.approx(measured.INDEX_BUILD_TENTH_S.value)


def test_storage_by_hand():
    found = storage(Wanted(10 * MILLION, dimension=768, kept=0.5, picture_bytes=100_000))
    assert found.vectors == 10e6 * 768 * 4
    assert found.vector_index == pytest.approx(10e6 * (768 / 8 + 17))
    assert found.columns == pytest.approx(976e6)
    assert found.pictures == 0.5 * 10e6 * 100_000
    parts = found.vectors + found.columns + found.scalar_indexes + found.vector_index
    assert found.room == 2 * parts


def test_an_index_keeps_a_bit_a_number_and_seventeen_bytes():
    assert index_bytes_of_a_row(512) == 81
    assert index_bytes_of_a_row(1024) == 64 + 81


def test_merging_is_the_sum_of_commits_into_a_growing_table():
    by_hand = sum(commit_s(present) for present in range(0, 100_000, 1000))
    assert merging_s(100_000, 1000) == pytest.approx(by_hand)


def test_the_commits_of_a_load_are_large_enough_to_keep_up_with_encoding():
    small = loading(Wanted(MILLION))
    assert small.commit_rows == 1024
    assert small.commits == 977
    large = loading(Wanted(1000 * MILLION))
    assert large.small_commits_s > 30 * large.encoding_s
    assert merging_s(1000 * MILLION, large.commit_rows) == pytest.approx(large.encoding_s, rel=0.001)


def test_a_load_by_hand():
    found = loading(Wanted(3_600_000, workers=10, pictures_per_s=100))
    assert found.worker_hours == 10
    assert found.encoding_s == 3600
    assert found.ledger_bytes == 28_800_000


def test_a_month_that_the_indexer_has_no_time_for_is_told():
    found = month(Wanted(1000 * MILLION, churn=0.05))
    assert found.committing == pytest.approx(50e6 / 512 * 98 / MONTH_S)
    assert found.committing > 1 > found.committing_in_bulk
    assert "not possible" in markdown([Wanted(1000 * MILLION)])


def test_shards_are_as_many_as_their_size_wants_and_share_evenly():
    found = shards(Wanted(25 * MILLION, shard_rows=10 * MILLION))
    alone = one_table(Wanted(-(-25 * MILLION // 3)))
    assert found.count == 3
    assert found.retriever_cores == pytest.approx(3 * alone.retriever_cores)
    assert found.commit_s == alone.commit_s
    assert shards(Wanted(MILLION)).count == 1


def test_more_of_anything_never_needs_less():
    sizes = [one_table(Wanted(documents)) for documents in (*DOCUMENTS, 3 * DOCUMENTS[-1])]
    for field in ("lists", "build_s", "build_s_at_worst", "search_ms", "resident", "retriever_cores", "commit_s"):
        values = [getattr(each, field) for each in sizes]
        assert values == sorted(values), field
    assert one_table(Wanted(MILLION, qps=100)).retriever_cores == 2 * one_table(Wanted(MILLION, qps=50)).retriever_cores
    assert search_ms(100 * MILLION, 1024) > search_ms(100 * MILLION, 512)
    assert loading(Wanted(MILLION, workers=8)).encoding_s < loading(Wanted(MILLION, workers=4)).encoding_s


def test_the_command_line_says_all_of_it():
    said = "--documents 3e8 --dimension 768 --pictures 0.1 --picture-bytes 2e5 --qps 9 --pictures-per-s 400 --workers 8"
    (found,) = wanted_by([*said.split(), "--churn", "0.2", "--shard-rows", "2e7"])
    assert found == Wanted(300 * MILLION, 768, 0.1, 2e5, 9, 8, 400, 0.2, 20 * MILLION)


@pytest.mark.parametrize("said", ["--documents 0", "--pictures 2", "--churn -0.1", "--workers 0"])
def test_what_makes_no_sense_is_refused(said: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        wanted_by(said.split())
    assert "between 0 and 1" in capsys.readouterr().err
