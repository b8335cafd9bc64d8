"""Draws results as one picture: a grid of thumbnails and texts, each with its label. Knows no service and no ranking."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont, ImageOps

CELL_PX = 256
LABEL_PX = 44
GAP_PX = 12
TITLE_PX = 56
PAPER, INK, FAINT, CARD = "#f7f4ec", "#22262e", "#6b7280", "#ffffff"


@dataclass(frozen=True, slots=True)
class Cell:
    """One result: the bytes of a picture file, or a text, and the words below it."""

    label: str
    picture: bytes | None = None
    text: str | None = None


def contact_sheet(title: str, cells: Sequence[Cell], columns: int = 5) -> Image.Image:
    """The sheet, as wide as its columns need; its size in pixels is that of `sheet_size`."""
    sheet = Image.new("RGB", sheet_size(len(cells), columns), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = _font(22)
    draw.text((GAP_PX, TITLE_PX / 2), _fitted(title, font, sheet.width - 2 * GAP_PX), INK, font, anchor="lm")
    columns = min(columns, max(len(cells), 1))
    for place, cell in enumerate(cells):
        row, column = divmod(place, columns)
        corner = (GAP_PX + column * (CELL_PX + GAP_PX), TITLE_PX + row * (CELL_PX + LABEL_PX + GAP_PX))
        _draw_cell(sheet, draw, cell, corner)
    return sheet


def sheet_size(cells: int, columns: int = 5) -> tuple[int, int]:
    """Width and height in pixels of a sheet of so many cells."""
    columns = min(columns, max(cells, 1))
    rows = -(-cells // columns)
    return GAP_PX + columns * (CELL_PX + GAP_PX), TITLE_PX + rows * (CELL_PX + LABEL_PX + GAP_PX)


def _draw_cell(sheet: Image.Image, draw: ImageDraw.ImageDraw, cell: Cell, corner: tuple[int, int]) -> None:
    left, top = corner
    draw.rectangle((left, top, left + CELL_PX - 1, top + CELL_PX - 1), CARD)
    if cell.picture is not None:
        with Image.open(io.BytesIO(cell.picture)) as opened:
            small = ImageOps.contain(ImageOps.exif_transpose(opened).convert("RGB"), (CELL_PX, CELL_PX))
        sheet.paste(small, (left + (CELL_PX - small.width) // 2, top + (CELL_PX - small.height) // 2))
    else:
        font = _font(20)
        words = "\n".join(_wrapped(cell.text or "", font, CELL_PX - 2 * GAP_PX)[:8])
        draw.multiline_text(
            (left + CELL_PX / 2, top + CELL_PX / 2), words, INK, font, anchor="mm", align="center", spacing=6
        )
    font = _font(15)
    draw.text((left, top + CELL_PX + LABEL_PX / 2), _fitted(cell.label, font, CELL_PX), FAINT, font, anchor="lm")


def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    # The face that travels with Pillow: no font of the machine is needed.
    return ImageFont.load_default(size_px)


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width_px: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(joined) <= width_px:
            lines[-1] = joined
        else:
            lines.append(_fitted(word, font, width_px))
    return lines


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width_px: int) -> str:
    # A text of a megabyte is not measured letter by letter.
    text = text[:400]
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength(text + "…") > width_px:
        text = text[:-1]
    return text + "…"
