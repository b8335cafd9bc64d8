"""Documents of a source made ready to be encoded, in whichever worker does it: a reader, or an encoder that decodes, too."""

from collections.abc import Sequence
from dataclasses import replace

from deployments.jobs.meeting import Opening
from deployments.jobs.settings import JobSettings
from deployments.jobs.steps import Step, steps_of
from deployments.jobs.tools import document_preparation, picture_decoding, picture_tools
from serve_app.core.source_items import SourceItem
from serve_app.services.bulk import Fetched, Observe, timed
from serve_app.types import ItemFailure


class Preparing:
    """Fetch, compare with the table, decode."""

    def __init__(self, settings: JobSettings, opening: Opening, observe: Observe) -> None:
        self._documents = document_preparation(settings, observe, into_empty=opening.into_empty)
        self._decoding = picture_decoding(settings, opening.card, observe)

    async def steps(self, items: Sequence[SourceItem]) -> list[Step]:
        """What each item became."""
        found = await self._documents.prepare(items)
        decoded = iter(await self._decoding.decode([each for each in found if isinstance(each, Fetched)]))
        return steps_of(items, [next(decoded) if isinstance(each, Fetched) else each for each in found])


class Handing:
    """Leave it to the encoders, but for what lies on other machines: who waits for a network would let a core rest."""

    def __init__(self, settings: JobSettings, observe: Observe) -> None:
        _, self._source, _ = picture_tools(settings)
        self._observe = observe

    async def steps(self, items: Sequence[SourceItem]) -> list[Step]:
        """Each item, with its picture unless that is a file here; or why it has none."""
        uris = [item.uri for item in items if item.uri is not None and _is_elsewhere(item)]
        if not uris:
            return steps_of(items, items)
        with timed(self._observe, "fetch") as done:
            found = await self._source.fetch_all(uris)
            done(len(uris), sum(len(each) for each in found if isinstance(each, bytes)))
        pictures = iter(found)
        return steps_of(items, [_with(item, next(pictures)) if _is_elsewhere(item) else item for item in items])


def picture_travels(item: SourceItem) -> bool:
    """Whether `Handing` hands it on with its picture."""
    return item.data is not None or _is_elsewhere(item)


def _is_elsewhere(item: SourceItem) -> bool:
    return item.data is None and item.uri is not None and not item.uri.lower().startswith("file:")


def _with(item: SourceItem, picture: bytes | ItemFailure) -> SourceItem | ItemFailure:
    return picture if isinstance(picture, ItemFailure) else replace(item, data=picture)
