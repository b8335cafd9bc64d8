"""The contact sheet: its size, and that what goes in is on it."""

import io

import pytest
from PIL import Image

from serve_app.contact_sheet import CELL_PX, GAP_PX, TITLE_PX, Cell, contact_sheet, sheet_size


def png(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("count", [0, 1, 5, 6, 11])
def test_the_sheet_has_the_size_of_its_cells(count):
    sheet = contact_sheet("boats", [Cell("a boat", text="words")] * count)
    assert sheet.size == sheet_size(count)


def test_pictures_stand_in_reading_order():
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    sheet = contact_sheet("colours", [Cell("", png(colour)) for colour in colours], columns=2)
    step = CELL_PX + GAP_PX
    first = (GAP_PX + CELL_PX // 2, TITLE_PX + CELL_PX // 2)
    assert sheet.getpixel(first) == colours[0]
    assert sheet.getpixel((first[0] + step, first[1])) == colours[1]
    assert sheet.getpixel((first[0], sheet.height - GAP_PX - CELL_PX // 2 - 44)) == colours[2]


def test_a_text_is_written_into_its_cell():
    sheet = contact_sheet("t", [Cell("label", text="a red boat at night")])
    cell = sheet.crop((GAP_PX, TITLE_PX, GAP_PX + CELL_PX, TITLE_PX + CELL_PX))
    assert min(cell.convert("L").tobytes()) < 80  # dark letters on the white card


def test_words_without_end_do_not_leave_their_cell():
    sheet = contact_sheet("x" * 5_000, [Cell("y" * 5_000, text="z" * 100_000), Cell("next", png((255, 255, 255)))])
    gap = sheet.crop((GAP_PX + CELL_PX, TITLE_PX, GAP_PX + CELL_PX + GAP_PX, sheet.height))
    assert gap.getcolors() == [(gap.width * gap.height, (247, 244, 236))]
