"""What an export says of itself: which table it was, of which encoder, and what every file must hold. Knows no storage.

The manifest is written last: where there is none, an export was broken off.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from serve_app.core.records import TableIdentity, calibration_from_json, calibration_to_json
from serve_app.errors import InvalidSource
from serve_app.types import Calibration, FieldType, Modality

MANIFEST = "manifest.json"
FORMAT = "crossmodal-export-1"
# In the schema of each Parquet file: a file of another export, put in its place, is told.
EXPORT_KEY = b"crossmodal.export"


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """A file of an export. `rows` is None for one that holds something else than rows; `sha256` as sha256sum prints it."""

    name: str
    size: int
    sha256: str
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class ExportManifest:
    """`table_version` is the users' number; `whole`: nothing was left out by a filter or a choice of modalities."""

    id: str
    target: str
    table: str
    table_version: int
    created_at: datetime
    identity: TableIdentity
    fields: Mapping[str, FieldType]
    counts: Mapping[Modality, int]
    calibration: Calibration
    whole: bool = True
    files: tuple[ExportedFile, ...] = field(default=())

    @property
    def rows(self) -> int:
        return sum(self.counts.values())


def manifest_to_json(manifest: ExportManifest) -> str:
    """As a file for people and for `manifest_from_json`."""
    content = {
        "format": FORMAT,
        "id": manifest.id,
        "target": manifest.target,
        "created_at": manifest.created_at.isoformat(),
        "table": {"name": manifest.table, "version": manifest.table_version, "whole": manifest.whole},
        "encoder": asdict(manifest.identity),
        "fields": {name: type_.value for name, type_ in manifest.fields.items()},
        "rows": manifest.rows,
        "counts": {modality.value: count for modality, count in manifest.counts.items() if count},
        "calibration": json.loads(calibration_to_json(manifest.calibration)),
        "files": [asdict(each) for each in manifest.files],
    }
    return json.dumps(content, indent=1, ensure_ascii=False)


def manifest_from_json(data: bytes) -> ExportManifest:
    """What `manifest_to_json` wrote. Raises InvalidSource for what is none, or one of a later version."""
    try:
        content = json.loads(data)
        found = content["format"]
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidSource(f"{MANIFEST} is no manifest of an export") from error
    if found != FORMAT:
        raise InvalidSource(
            f"the export has the format {found!r}, and this version of crossmodal reads {FORMAT!r} only"
        )
    try:
        return _manifest(content)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidSource(f"{MANIFEST} is damaged: {type(error).__name__}: {error}") from error


def _manifest(content: Mapping[str, Any]) -> ExportManifest:
    return ExportManifest(
        id=content["id"],
        target=content["target"],
        table=content["table"]["name"],
        table_version=content["table"]["version"],
        created_at=datetime.fromisoformat(content["created_at"]),
        identity=TableIdentity(**content["encoder"]),
        fields={name: FieldType(type_) for name, type_ in content["fields"].items()},
        counts={Modality(modality): count for modality, count in content["counts"].items()},
        calibration=calibration_from_json(json.dumps(content["calibration"])),
        whole=content["table"]["whole"],
        files=tuple(ExportedFile(**each) for each in content["files"]),
    )
