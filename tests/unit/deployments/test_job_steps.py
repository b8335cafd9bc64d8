"""How steps travel: what Ray may do to blocks, and what a worker that is run again has to do as it did before."""

import pickle

import numpy as np
import pyarrow as pa

from deployments.jobs.steps import GROUP_STEPS, PICTURE_GROUP_STEPS, Step, groups_for, pack, unpack, written_group_steps
from serve_app.core.planning import DocumentPlan
from serve_app.core.source_items import SourceItem
from serve_app.services.bulk import Prepared, Unchanged
from serve_app.types import ItemFailure, Modality


def steps(count: int, size: int = 0) -> list[Step]:
    return [Step(str(n), None, ItemFailure("code", "x" * size)) for n in range(count)]


def test_what_is_packed_is_unpacked_in_order_also_from_blocks_put_together() -> None:
    given = steps(3 * GROUP_STEPS + 1)
    blocks = list(pack(given))
    assert unpack(pa.concat_tables(blocks)) == given
    assert [step for block in blocks for step in unpack(block)] == given
    assert not list(pack([]))


def test_pictures_and_pixels_travel_beside_the_pickle_and_arrive_as_they_were() -> None:
    known = SourceItem("a", uri="s3://b/a.png", data=b"picture" * 1000, metadata={"n": 1})
    plan = DocumentPlan("b", Modality.IMAGE, None, None, "c" * 64, {}, {})
    pixels = np.arange(12_000, dtype=np.uint8).reshape(20, 200, 3)
    (block,) = pack([Step("a", None, known), Step("b", None, Prepared(plan, None, "c" * 64, pixels))])
    assert [len(large) for large in block.column("large")[0].as_py()] == [7000, 12_000]
    assert len(block.column("steps")[0].as_py()) < 2000
    first, second = unpack(block)
    assert first.outcome == known
    assert isinstance(second.outcome, Prepared)
    assert second.outcome.pixels is not None
    assert np.array_equal(second.outcome.pixels, pixels)


def test_each_block_is_one_row_and_their_number_does_not_depend_on_what_is_in_them() -> None:
    """A step that was large may be small when its worker is run again: a picture to encode is `unchanged` by then."""
    large, small = steps(200, size=200_000), [Step(str(n), None, Unchanged(str(n))) for n in range(200)]
    assert [len(block) for block in pack(large)] == [len(block) for block in pack(small)] == [1] * groups_for(200)
    assert [[each.key for each in unpack(block)] for block in pack(large)] == [
        [each.key for each in unpack(block)] for block in pack(small)
    ]


def test_a_block_is_not_cut_by_ray_whatever_its_size() -> None:
    from ray.data._internal.output_buffer import BlockOutputBuffer, OutputBlockSizeOption

    buffer, blocks = BlockOutputBuffer(OutputBlockSizeOption(target_max_block_size=1)), []
    for block in pack(steps(70, size=100_000), PICTURE_GROUP_STEPS):
        buffer.add_batch(block)
        blocks += list(buffer.iter_ready_blocks())
    assert [len(unpack(block)) for block in blocks] == [32, 32, 6]
    assert pickle.loads(blocks[0].column("steps")[0].as_py())[0].key == "0"


def test_groups_are_counted_so_that_a_commit_is_never_of_none() -> None:
    assert [groups_for(rows, written_group_steps(rows)) for rows in (1, 32, 1024)] == [1, 1, 1024 // GROUP_STEPS]
    assert [groups_for(rows) for rows in (1, GROUP_STEPS, GROUP_STEPS + 1, 1024)] == [1, 1, 2, 1024 // GROUP_STEPS]
