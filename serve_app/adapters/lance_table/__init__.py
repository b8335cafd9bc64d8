"""The document table in LanceDB, which is imported in this package and nowhere else."""

from serve_app.adapters.lance_table.table import LanceTable

__all__ = ["LanceTable"]
