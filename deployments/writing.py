"""The table as a writer opens it, and the service that writes it: for the Indexer, and for jobs."""

from datetime import timedelta
from typing import TYPE_CHECKING

from configs.schema import FullTextConfig, SearchConfig, TableConfig
from deployments.declared import declared_fields, text_index
from serve_app.core.index_policy import IndexPolicy
from serve_app.services.indexing import IndexingService
from serve_app.services.kept_pictures import KeptPictures
from serve_app.types import VectorType

if TYPE_CHECKING:
    from serve_app.adapters.lance_table import LanceTable


def open_for_writing(table: TableConfig, full_text: FullTextConfig) -> "LanceTable":
    # Here and not above: the builder imports this file, and LanceDB takes two seconds.
    from serve_app.adapters.lance_table import LanceTable

    return LanceTable(
        table.uri,
        table.name,
        storage_options=table.options,
        # A writer that looks at an old version would answer `stored` for what stands there already.
        read_consistency=timedelta(0),
        unread_for=timedelta(seconds=table.keep_versions_s),
        index_cache_bytes=table.index_cache_bytes,
        metadata_cache_bytes=table.metadata_cache_bytes,
        fields=declared_fields(table),
        texts=text_index(full_text),
        vectors=VectorType(table.vectors),
    )


def indexing_service(
    lance: "LanceTable", table: TableConfig, search: SearchConfig, pictures: KeptPictures | None = None
) -> IndexingService:
    return IndexingService(
        lance,
        max_commit_documents=table.max_commit_documents,
        max_queued_documents=table.max_queued_writes,
        compact_every_commits=table.compact_every_commits,
        keep_versions=timedelta(seconds=table.keep_versions_s),
        calibration_sample=search.calibration_sample,
        calibration_growth=search.calibration_growth,
        index=IndexPolicy(
            target_recall=search.target_recall,
            min_rows=table.index_min_documents,
            exact_search_ms=table.index_above_ms,
            max_unindexed_share=table.index_unindexed_share,
            max_changed_share=table.index_changed_share,
        ),
        pictures=pictures,
    )
