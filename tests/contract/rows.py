"""Rows to write in the contract tests, and how to look at them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from serve_app.ports import DocumentTable
from serve_app.types import EncoderCard, FloatVector, ImagePreprocessing, Modality, Record, StoredDocument

DIMENSION = 8
MONDAY = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
TUESDAY = MONDAY + timedelta(days=1)
PREPROCESSING = ImagePreprocessing(8, 8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", "shortest", 0)
ENCODER = EncoderCard("demo", "v1", "f" * 64, DIMENSION, 77, PREPROCESSING, "cpu", "float32", 100.0)


def axis(position: int) -> FloatVector:
    return np.eye(DIMENSION, dtype=np.float32)[position]


def near(position: int, angle: float) -> FloatVector:
    """A unit vector `angle` radians away from an axis."""
    return (np.cos(angle) * axis(position) + np.sin(angle) * axis((position + 1) % DIMENSION)).astype(np.float32)


def record(document_id: str, vector: FloatVector | None = None, **changes: Any) -> Record:
    plain = Record(
        id=document_id,
        modality=Modality.TEXT,
        uri=None,
        text=f"text of {document_id}",
        content_sha256="0" * 64,
        metadata={},
        vector=axis(0) if vector is None else vector,
        fingerprint=ENCODER.fingerprint,
    )
    return replace(plain, **changes)


async def stored(table: DocumentTable, document_id: str) -> StoredDocument:
    (found,) = await table.get([document_id])
    assert found is not None
    return found


def ids_of(rows: Sequence[StoredDocument]) -> list[str]:
    return [row.document.id for row in rows]
