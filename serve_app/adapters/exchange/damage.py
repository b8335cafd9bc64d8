"""What libraries raise for files that are not what they should be, as an error of ours that names the file."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from serve_app.errors import CrossmodalError, UnreadableSource

FOREIGN = (pa.ArrowException, OSError, ValueError)


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Raises UnreadableSource for a file that is damaged, or of another format than its name says."""
    try:
        yield
    except CrossmodalError:
        raise
    except FOREIGN as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnreadableSource(f"{name} is damaged, or not what its name says: {said}") from error
