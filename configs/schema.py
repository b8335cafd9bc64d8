"""What can be set, with units in the names. Frozen; unknown keys are refused. Reads no file and no environment.

Each part of the system gets only its own section. Replica counts and GPUs are not here: they live in serve_config.yaml.
"""

import re
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class EncoderConfig(Section):
    """Which OpenCLIP model, and how it runs."""

    model: str = Field(
        default="demo",
        description="An OpenCLIP architecture (`ViT-B-32`), `hf-hub:org/repo`, `local-dir:/path`, the object-storage URI of "
        "such a folder, or `demo`.",
    )
    pretrained: str | None = Field(
        default=None,
        description="With an architecture: OpenCLIP's tag (`laion2b_s34b_b79k`), or the path or object-storage URI of a "
        "checkpoint.",
    )
    sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-fA-F]{64}$",
        description="What the file of the weights must have as its SHA-256 (hex), wherever it comes from.",
    )
    device: str = Field(default="auto", description="`auto` (the GPU where the replica has one), `cpu` or `cuda`.")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="`auto`: bfloat16 on a GPU or CPU that computes in it, float32 elsewhere. Vectors are float32 always.",
    )
    threads: int | None = Field(
        default=None, ge=1, description="Threads of a replica on a CPU; by default the whole CPUs that Ray gave it."
    )
    compile: Literal["never", "graphs", "auto"] = Field(
        default="graphs",
        description="`graphs`: on a GPU, record CUDA graphs at the start, by size of batch, and keep what is faster; takes "
        "seconds. `auto`: measure towers that torch compiles as well, which takes minutes; not where weights or texts are "
        "packed, as on most CPUs.",
    )
    max_batch_texts: int = Field(default=32, ge=1, description="Most texts that go through the text tower at once.")
    max_batch_pictures: int = Field(
        default=8,
        ge=1,
        description="Most pictures that go through the image tower at once. A GPU wants more; a CPU gains next to nothing beyond "
        "8, and who asks with a picture waits for the batch that runs.",
    )
    max_queued_items: int = Field(default=1024, ge=1, description="Items that may wait in a replica; more are refused.")
    max_wait_s: float = Field(
        default=5.0,
        gt=0,
        description="What would wait longer for a replica, at the pace of its latest batches, is refused.",
    )
    options: dict[str, str] = Field(
        default_factory=dict,
        description="Options of the object store that holds the checkpoint (`endpoint`, `region`, ...).",
    )
    cache_dir: str = Field(default="var/models", description="Where checkpoints from object storage are kept.")


class TextConfig(Section):
    """Bounds of a text before it is tokenised."""

    max_characters: int = Field(default=100_000, ge=1, description="A longer text is refused.")
    max_tokenised_characters: int = Field(
        default=4_000,
        ge=16,
        description="The tokeniser sees no more than these first characters; the answer says `truncated`.",
    )
    max_word_characters: int = Field(
        default=64, ge=8, description="A longer word is cut for the tokeniser, whose time grows with the square of it."
    )


class PictureConfig(Section):
    """How pictures are read (docs/pictures.md), their bounds before they are decoded, and where they may come from."""

    exact: Literal["policy", "openclip"] = Field(
        default="policy",
        description="`policy`: OpenCLIP's pixels, and better ones where it is wrong; `openclip`: its pixels always.",
    )
    decode: Literal["exact", "fast"] = Field(
        default="exact",
        description="`fast`: a JPEG much larger than the encoder's size is decoded smaller; its vectors are near, not equal.",
    )
    max_bytes: int = Field(default=20_000_000, ge=1, description="Largest picture file.")
    max_pixels: int = Field(default=50_000_000, ge=1, description="Largest width times height.")
    max_aspect_ratio: float = Field(default=50.0, ge=1, description="Largest ratio of the longer side to the shorter.")
    allowed_roots: tuple[str, ...] = Field(
        default=(),
        description="URI prefixes from which pictures may be read: `file:///data/pictures/`, `s3://bucket/prefix/`.",
    )
    fetch_timeout_s: float = Field(default=10.0, gt=0, description="Longest time to fetch one picture by URI.")
    threads: int = Field(
        default=2,
        ge=1,
        description="Pictures decoded side by side in one replica, of those asked with and of those stored.",
    )

    @model_validator(mode="after")
    def _promise_can_be_held(self) -> Self:
        if self.exact == "openclip" and self.decode == "fast":
            raise ValueError("`exact: openclip` promises OpenCLIP's pixels, which `decode: fast` does not give")
        return self


class VideoConfig(Section):
    """Bounds of videos, and what becomes of their frames (docs/video.md). Roots and sizes of frames: those of pictures."""

    frame_px: int = Field(
        default=640, ge=64, description="The longer side of a kept frame; its vector is made of what is kept."
    )
    max_bytes: int = Field(default=2_000_000_000, ge=1, description="Largest file of a video.")
    max_seconds: float = Field(default=14_400.0, gt=0, description="Longest video of a job.")
    max_online_seconds: float = Field(
        default=600.0, gt=0, description="Longest video of POST /v1/documents; longer ones are for a job."
    )
    max_frames: int = Field(default=3_600, ge=1, description="Most frames of one video.")
    max_decode_s: float = Field(default=1_800.0, gt=0, description="Longest time to decode one video.")
    fetch_timeout_s: float = Field(default=300.0, gt=0, description="Longest time to fetch one video by URI.")
    threads: int = Field(default=1, ge=1, description="Threads of the decoder of one video.")


class StorageConfig(Section):
    """Where pictures that come with a request are put."""

    uri: str = Field(default="var/pictures", description="A folder, `s3://bucket/prefix`, `gs://...` or `az://...`.")
    options: dict[str, str] = Field(
        default_factory=dict,
        description="Options of the object store (`endpoint`, `region`, ...); credentials come from the environment.",
    )
    signed_url_s: int = Field(default=900, ge=1, description="How long a signed address of a picture is good.")


LANGUAGES = (
    *(
        "Arabic",
        "Danish",
        "Dutch",
        "English",
        "Finnish",
        "French",
        "German",
        "Greek",
        "Hungarian",
        "Italian",
        "Norwegian",
    ),
    *("Portuguese", "Romanian", "Russian", "Spanish", "Swedish", "Tamil", "Turkish"),
)
LIST_TYPES = {"string": "strings", "integer": "integers"}
# Columns of every table, and what LanceDB calls the number of a query: no field can be called so.
RESERVED_FIELDS = frozenset(
    {
        *("id", "modality", "uri", "text", "vector", "content_sha256", "metadata", "created_at", "updated_at"),
        *("offset_s", "thumbnail_uri", "query_index"),
    }
)
FIELD_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
MAX_FIELDS = 64


class FieldConfig(Section):
    """A declared field: its type, or `{type, index}`. Written `[string]` and `[integer]` for lists."""

    type: Literal["string", "integer", "float", "boolean", "timestamp", "strings", "integers"]
    index: Literal["btree", "bitmap", "label_list", "none"] = "btree"

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        declared = given if isinstance(given, dict) else {"type": given}
        type_ = declared.get("type")
        if isinstance(type_, list):
            if len(type_) != 1 or type_[0] not in LIST_TYPES:
                raise ValueError("a list is written [string] or [integer]")
            type_ = LIST_TYPES[type_[0]]
        usual = {"boolean": "bitmap", "strings": "label_list", "integers": "label_list"}.get(str(type_), "btree")
        return {"index": usual, **declared, "type": type_}

    @model_validator(mode="after")
    def _index_fits(self) -> Self:
        fitting = {
            "btree": ("string", "integer", "float", "timestamp"),
            "bitmap": ("string", "integer", "boolean"),
            "label_list": tuple(LIST_TYPES.values()),
        }
        if self.index != "none" and self.type not in fitting[self.index]:
            raise ValueError(f"the index {self.index} takes {', '.join(fitting[self.index])}, not {self.type}")
        return self


class FullTextConfig(Section):
    """How texts are cut into words for the full-text index. Another choice is followed by building the index anew."""

    tokenizer: Literal["simple", "whitespace", "icu", "ngram"] = Field(
        default="simple",
        description="`simple`: at white space and punctuation; `whitespace`; `icu`: by the rules of Unicode, for Chinese, "
        "Japanese and Thai too; `ngram`: pieces of three letters, which find parts of words and no shorter ones.",
    )
    language: str | None = Field(
        default=None,
        description="`English`, `German`, ...: its words are stemmed (boats, boat). Without one, words are taken as they are.",
    )
    stop_words: bool = Field(default=False, description="Leave out the commonest words of the language.")
    fold_accents: bool = Field(default=True, description="Find é by e.")

    @model_validator(mode="after")
    def _language_fits(self) -> Self:
        if self.language is not None and self.language not in LANGUAGES:
            raise ValueError(f"language is one of {', '.join(LANGUAGES)}")
        if self.stop_words and self.language is None:
            raise ValueError("stop_words are those of a language: name it in full_text.language")
        return self


class TableConfig(Section):
    """The one table."""

    uri: str = Field(default="var/table", description="A folder, `s3://bucket/prefix`, `gs://...` or `az://...`.")
    name: str = Field(default="documents", description="Name of the table in it.")
    options: dict[str, str] = Field(
        default_factory=dict, description="The same for the table, under the same names; LanceDB takes them."
    )
    fields: dict[str, FieldConfig] = Field(
        default_factory=dict,
        max_length=MAX_FIELDS,
        description="Typed fields of documents, to filter by: `{price: float, tags: [string], taken_at: timestamp}`.",
    )
    vectors: Literal["float32", "float16"] = Field(
        default="float32",
        description="What a new table keeps its vectors in; `float16` halves it, and changes scores in the fourth digit.",
    )
    read_consistency_ms: int = Field(
        default=0, ge=0, description="How old a Retriever's view of the table may be; 0 looks before every read."
    )
    max_concurrent_reads: int = Field(
        default=4, ge=1, description="Searches that run at once in one Retriever replica."
    )
    max_queued_reads: int = Field(default=256, ge=1, description="Searches that may wait there; more are refused.")
    max_commit_documents: int = Field(default=512, ge=1, description="Most documents in one commit.")
    max_queued_writes: int = Field(
        default=4096, ge=1, description="Documents that may wait for a commit; more are refused."
    )
    compact_every_commits: int = Field(default=64, ge=1, description="Compaction runs after this many commits.")
    keep_versions_s: int = Field(default=3600, ge=60, description="Old versions of the table are kept this long.")
    index_min_documents: int = Field(
        default=10_000, ge=256, description="Smaller tables get no vector index, and are searched exactly."
    )
    index_above_ms: float = Field(
        default=20.0, ge=0, description="An index is made where an exact search takes longer than this."
    )
    index_unindexed_share: float = Field(
        default=0.05, gt=0, lt=1, description="The index takes in new documents when this share of all is not in it."
    )
    index_changed_share: float = Field(
        default=0.2, gt=0, description="Recall is measured anew when this share of all documents changed."
    )
    index_cache_bytes: int = Field(
        default=2 * 1024**3, ge=0, description="Most memory for parts of indexes in one Retriever replica."
    )
    metadata_cache_bytes: int = Field(
        default=256 * 1024**2, ge=0, description="Most memory for what a replica remembers of the table's files."
    )

    @model_validator(mode="after")
    def _readers_look_before_versions_go(self) -> "TableConfig":
        """A reader that is older than what is kept meets a version that is gone: it would have to start again each time."""
        if self.keep_versions_s * 1000 < 10 * self.read_consistency_ms:
            raise ValueError(
                f"keep_versions_s ({self.keep_versions_s}) must be at least ten times read_consistency_ms "
                f"({self.read_consistency_ms})"
            )
        return self

    @field_validator("fields")
    @classmethod
    def _names_fit(cls, fields: dict[str, FieldConfig]) -> dict[str, FieldConfig]:
        for name in fields:
            if name in RESERVED_FIELDS or not FIELD_NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r} cannot be a field: up to 63 of a-z, 0-9 and _, a letter first, and no column of every table"
                )
        return fields


class SearchConfig(Section):
    """Ranking, and the bounds of a search."""

    max_limit: int = Field(default=200, ge=1, description="Most results of one search.")
    max_window: int = Field(
        default=800, ge=1, description="How deep the order may be paged: `offset` and `limit` of a search together."
    )
    candidates: int = Field(
        default=50,
        ge=1,
        description="Rows of each modality that decide the first `candidates / 2` places; half as many decide the first fifth.",
    )
    calibration_sample: int = Field(
        default=2048, ge=2, description="Vectors of each modality from which its mean is estimated."
    )
    calibration_growth: float = Field(
        default=0.2, gt=0, description="The means are estimated anew when a modality grew or shrank by this share."
    )
    target_recall: float = Field(
        default=0.95,
        ge=0.5,
        le=1,
        description="Share of the ten nearest documents that a vector index has to find; at 1 every search is exact.",
    )
    cached_queries: int = Field(
        default=10_000,
        ge=0,
        description="Texts of queries, labels and embeddings whose vectors a Gateway remembers; 0 remembers none.",
    )
    image_weight: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Weight w of the picture in the vector of an image_text document; the text has 1 - w.",
    )


class HttpConfig(Section):
    """The border."""

    max_body_bytes: int = Field(default=32_000_000, ge=1, description="Largest body of a request.")
    max_documents: int = Field(default=256, ge=1, description="Most documents in one POST /v1/documents.")
    max_searches: int = Field(default=64, ge=1, description="Most searches in one POST /v1/search:batch.")
    max_listed_documents: int = Field(
        default=1000, ge=1, description="Most documents in one answer of GET /v1/documents, and ids of one deletion."
    )
    max_embeddings: int = Field(
        default=2048,
        ge=1,
        description="Most items of one POST /v1/embeddings, and labels times templates of one POST /v1/classify.",
    )
    max_embedded_pictures: int = Field(
        default=256, ge=1, description="Most pictures of one POST /v1/embeddings or /v1/classify."
    )
    max_thumbnail_px: int = Field(default=1024, ge=16, description="Largest longer side of a thumbnail.")
    request_timeout_s: float = Field(
        default=60.0, gt=0, description="A request is answered within this time, with an error if need be."
    )
    readiness_cache_s: float = Field(default=2.0, ge=0, description="How long an answer of /readyz is reused.")


class CallConfig(Section):
    """Calls between deployments, coalesced at the caller."""

    max_batch_size: int = Field(default=64, ge=1, description="Most items that travel as one call.")
    max_in_flight: int = Field(
        default=2,
        ge=1,
        description="Calls under way per caller and replica called, while neighbours gather; at the TextEncoder only full ones "
        "wait for another.",
    )
    max_pictures_per_call: int = Field(
        default=8, ge=1, description="Most pictures, files or pixels, that travel as one call."
    )
    max_picture_calls: int = Field(default=8, ge=1, description="Calls with pictures under way per caller.")
    max_partial_picture_calls: int = Field(
        default=2,
        ge=1,
        description="While so many are under way, pictures sent with a question, and pixels, wait until they fill a call "
        "or one has ended.",
    )
    max_queued_items: int = Field(
        default=2048, ge=1, description="Items that may wait at the caller; more are refused."
    )
    max_wait_s: float = Field(
        default=5.0,
        gt=0,
        description="What would wait longer at the caller, at the pace of the latest calls, is refused.",
    )
    max_short_wait_s: float = Field(
        default=2.0,
        gt=0,
        description="The same for requests of up to eight texts, which do not wait behind longer ones.",
    )
    retry_for_s: float = Field(default=45.0, ge=0, description="A call to a replica that died is repeated for so long.")


class JobConfig(Section):
    """Bulk work (docs/bulk.md)."""

    address: str = Field(
        default="http://127.0.0.1:8265",
        description="Of the dashboard of the Ray cluster that takes jobs, where neither `--address` nor `RAY_ADDRESS` says "
        "another.",
    )


class AppConfig(Section):
    """Everything. A profile in configs/*.yaml sets what differs from these defaults."""

    encoder: EncoderConfig = EncoderConfig()
    text: TextConfig = TextConfig()
    pictures: PictureConfig = PictureConfig()
    videos: VideoConfig = VideoConfig()
    storage: StorageConfig = StorageConfig()
    table: TableConfig = TableConfig()
    full_text: FullTextConfig = FullTextConfig()
    search: SearchConfig = SearchConfig()
    http: HttpConfig = HttpConfig()
    calls: CallConfig = CallConfig()
    jobs: JobConfig = JobConfig()


class GraphArgs(Section):
    """`args` of an application in serve_config.yaml: a profile, and what differs from it."""

    profile: str = Field(default="demo", description="Name of a file in configs/ without `.yaml`, or a path.")
    overrides: dict[str, dict[str, object]] = Field(
        default_factory=dict, description="Sections and keys that differ from the profile."
    )
