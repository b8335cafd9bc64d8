"""The rows of a `.npy`, some at a time, from whatever can be read: numpy's own map wants a file on disk. Knows no meaning."""

from typing import Any, BinaryIO

import numpy as np

from serve_app.errors import InvalidSource, UnreadableSource
from serve_app.types import FloatMatrix


class NpyRows:
    """`count` rows. Raises InvalidSource for anything else than a matrix of floats, ValueError for what is no `.npy`.

    No pickled objects are read, whatever the file says.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        readers: dict[tuple[int, int], Any] = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        version = np.lib.format.read_magic(file)
        if version not in readers:
            raise InvalidSource(f"{name} is a .npy of a version that is not read")
        shape, by_columns, self._type = readers[version](file)
        if len(shape) != 2 or by_columns or self._type.kind != "f":
            raise InvalidSource(f"{name} is no matrix of floats with a row for each vector")
        self.count, self.dimension = int(shape[0]), int(shape[1])
        self._file, self._name = file, name

    def next(self, rows: int) -> FloatMatrix:
        """The next rows in float32, not normalised. Raises UnreadableSource where the file ends too early."""
        wanted = rows * self.dimension * self._type.itemsize
        data = self._file.read(wanted)
        if len(data) != wanted:
            raise UnreadableSource(f"{self._name} ends too early")
        return np.frombuffer(data, self._type).reshape(rows, self.dimension).astype(np.float32)
