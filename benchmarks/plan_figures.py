"""What was measured here and is reckoned with in a plan, each figure with the page and the words that it stands in.

A test looks each of them up: a page that is measured anew has to change the plan too. What is no measurement is not here.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """`quote`: words of the page that hold the figure. `what`: with its unit, as a table of sources tells it."""

    value: float
    what: str
    page: str
    quote: str


RETRIEVAL, BENCHMARKS, DECISIONS = "docs/retrieval.md", "docs/benchmarks.md", "docs/decisions.md"
STORAGE = "docs/storage.md"

# Vectors of 512 numbers, one table on a local disk, two cores of an AMD EPYC without a GPU.
MEASURED_ROWS = 1_000_000
DIMENSION = 512
CORES = 2

_MILLION = (
    "| 1,000,000 | 256 lists, 26 s | 81 MB | 986 ms | none | **18** / 28 ms | 88/s | 0.979 | 29 ms, 0.994 | 346 MB |"
)
_TENTH = "| 100,000 | 32 lists, 1.3 s | 8 MB |"
INDEX_BYTES = Figure(81e6, "bytes of the vector index of a million rows", RETRIEVAL, _MILLION)
INDEX_BUILD_S = Figure(26.0, "seconds to build it, on two cores", RETRIEVAL, _MILLION)
INDEX_BUILD_TENTH_S = Figure(1.3, "seconds to build that of 100,000 rows", RETRIEVAL, _TENTH)
EXACT_MS = Figure(986.0, "ms of an exact search over a million rows", RETRIEVAL, _MILLION)
SEARCH_MS = Figure(18.0, "ms, p50 of a calibrated search of a million rows by the index", RETRIEVAL, _MILLION)
SEARCHES_PER_S = Figure(88.0, "such searches a second on two cores, 8 at once", RETRIEVAL, _MILLION)
PLAIN_MS = Figure(29.0, "ms, p50 of a search by plain cosine there", RETRIEVAL, _MILLION)
RESIDENT_BYTES = Figure(346e6, "bytes resident in the process that searched a million rows", RETRIEVAL, _MILLION)
LISTS_READ = Figure(15.0, "lists that a calibrated search reads there", RETRIEVAL, "an aimed search reads 15 lists")
PLAIN_LISTS_READ = Figure(171.0, "lists that a plain search reads there", RETRIEVAL, "a plain one 171 lists")
MERGE_S = Figure(
    0.098,
    "seconds of a commit of one row into a million",
    RETRIEVAL,
    "| merge of one row at 1,000,000 rows, quiet machine | 98 ms |",
)
PICTURES_PER_S = Figure(
    29.9,
    "pictures a second through HTTP, ViT-B/32 in bfloat16, on two cores, decoding included",
    BENCHMARKS,
    "bfloat16 (29.9 a second)",
)
TEXTS_PER_S = Figure(
    349.0, "texts of 5 to 12 words a second in bfloat16, on two cores", DECISIONS, "48 → 349 in bfloat16"
)
QUERIES_PER_S = Figure(
    197.0,
    "searches in words a second of the whole graph on two cores, table empty, HAProxy",
    BENCHMARKS,
    "a call each; coalesced | 103; 197 a second",
)
PICTURE_BYTES = Figure(57.5e3, "bytes of a JPEG of 500×375 at quality 87", BENCHMARKS, "(50 to 65 KB at quality 87)")
_ROW = "| a picture with a caption | 97.6 | 25.6 | 20.2 |"
ROW_BYTES = Figure(97.6, "bytes of a document beside its vector: a picture with a caption", STORAGE, _ROW)
ID_INDEX_BYTES = Figure(25.6, "bytes a document of the index of ids", STORAGE, _ROW)
TEXT_INDEX_BYTES = Figure(20.2, "bytes a document of the index of words", STORAGE, _ROW)

FIGURES = tuple(value for value in list(globals().values()) if isinstance(value, Figure))
