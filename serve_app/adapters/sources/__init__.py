"""What bulk work reads: pictures in folders, manifests, WebDataset tars, Hugging Face datasets, and tables of ours."""

from serve_app.adapters.sources.opening import KINDS, open_source
from serve_app.adapters.sources.spec import SourceSpec, column_mapping

__all__ = ["KINDS", "SourceSpec", "column_mapping", "open_source"]
