"""Arrays to the device. On a GPU by pinned memory and a stream of its own, so that a copy runs beside the computation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True, slots=True)
class Upload:
    """A tensor that may still be on its way; `done` is the event of its arrival, None on a CPU."""

    tensor: Any
    done: Any = None
    pinned: Any = None  # kept alive until the copy has ended


class Uploads:
    """To one device. `overlap`: whether copying beside computing is worth staging batches ahead."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.overlap = self.device.type == "cuda"
        self._stream: Any = torch.cuda.Stream(self.device) if self.overlap else None  # type: ignore[no-untyped-call]

    def stack(self, arrays: Sequence[np.ndarray[Any, Any]]) -> Upload:
        """Arrays of one shape as one tensor [n, ...]."""
        shape = (len(arrays), *arrays[0].shape)
        host = torch.empty(shape, dtype=torch.from_numpy(arrays[0][:0].copy()).dtype, pin_memory=self.overlap)
        np.stack(arrays, out=host.numpy())
        return self._send(host)

    def one(self, array: np.ndarray[Any, Any]) -> Upload:
        """An array as a tensor."""
        host = torch.from_numpy(array)
        return self._send(host.pin_memory() if self.overlap else host)

    def arrived(self, upload: Upload) -> Any:
        """The tensor, for the present stream, which waits for the copy; the calling thread does not."""
        if upload.done is not None:
            present = torch.cuda.current_stream(self.device)
            present.wait_event(upload.done)
            # Or the allocator could hand its memory to the next upload while this stream still reads it.
            upload.tensor.record_stream(present)
        return upload.tensor

    def _send(self, host: Any) -> Upload:
        if self._stream is None:
            return Upload(host)
        with torch.cuda.stream(self._stream):
            tensor = host.to(self.device, non_blocking=True)
            return Upload(tensor, self._stream.record_event(), host)
