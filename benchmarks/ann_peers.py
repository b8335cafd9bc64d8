"""The same neighbours by FAISS, hnswlib and Qdrant's engine. Run by benchmarks/retrieval.py in the peers' environment.

    var/benchmarks/ann/venv/bin/python benchmarks/ann_peers.py FOLDER     # vectors.npy and task.json; JSON rows on the output

Each is asked at the least effort at which its recall over all queries reaches the target; where none does, at the most. A
selection (modality and filter) goes in as each library takes it: as a bitmap in FAISS, as a function in hnswlib, as a payload
filter in Qdrant. Selections are made before the clock starts.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faiss
import hnswlib
import numpy as np
import qdrant_edge

TARGET = 0.95
DEPTH = 10
CONCURRENCY = 8
EFFORTS = (8, 16, 32, 64, 128, 256, 512, 1024)
M, EF_CONSTRUCTION = 16, 100
QDRANT_BATCH = 1000
QDRANT_FULL_SCAN_KB = 10_000  # its server's default: filters that leave fewer are compared one by one
QDRANT_SEGMENT_KB = 8_000_000

Search = Callable[[int, str], Sequence[int]]
"""The ten nearest places of a query, under a filter."""


class Task:
    """The vectors, the queries and, for each filter, which rows each query may return."""

    def __init__(self, folder: Path) -> None:
        told = json.loads((folder / "task.json").read_text(encoding="utf-8"))
        self.vectors = np.load(folder / "vectors.npy", mmap_mode="r")
        self.queries = np.array(told["queries"], np.float32)
        self.wanted = told["wanted"]
        self.nearest = told["nearest"]
        self.filters = tuple(told["fits"])
        self.modalities = np.array(told["modalities"])
        fits = {name: np.array(each, bool) for name, each in told["fits"].items()}
        self.masks = {
            (name, modality): fits[name] & (self.modalities == modality) for name in fits for modality in (0, 1)
        }

    def recall(self, found: Sequence[Sequence[int]], name: str) -> float:
        hits = sum(len(set(each) & set(right)) for each, right in zip(found, self.nearest[name], strict=True))
        return hits / sum(len(right) for right in self.nearest[name])


def measured(
    task: Task, engine: str, build_s: float, size_mb: float, at_effort: Callable[[int], Search]
) -> Iterator[dict[str, Any]]:
    """One row for each filter."""
    for name in task.filters:
        for effort in EFFORTS:
            search = at_effort(effort)
            recall = task.recall([search(query, name) for query in range(len(task.queries))], name)
            if recall >= TARGET:
                break
        latencies = []
        for query in range(len(task.queries)):
            started = time.perf_counter()
            search(query, name)
            latencies.append(time.perf_counter() - started)
        latencies.sort()
        started = time.perf_counter()
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            list(pool.map(lambda query: search(query, name), 2 * list(range(len(task.queries)))))  # noqa: B023
        yield {
            "engine": engine,
            "filter": name,
            "p50_ms": 1000 * latencies[len(latencies) // 2],
            "p95_ms": 1000 * latencies[int(0.95 * len(latencies))],
            "qps_8": 2 * len(task.queries) / (time.perf_counter() - started),
            "recall": recall,
            "resident_mb": int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
            * os.sysconf("SC_PAGE_SIZE")
            / 1e6,
            "build_s": build_s,
            "nprobes": effort,
            "size_mb": size_mb,
        }


def faiss_rows(task: Task, engine: str, description: str, effort_name: str) -> Iterator[dict[str, Any]]:
    """An index of FAISS's factory, with a bitmap of the rows that may be returned."""
    started = time.perf_counter()
    index = faiss.index_factory(task.vectors.shape[1], description, faiss.METRIC_INNER_PRODUCT)
    if hasattr(index, "hnsw"):
        index.hnsw.efConstruction = EF_CONSTRUCTION
    if not index.is_trained:
        index.train(np.ascontiguousarray(task.vectors[:: max(1, len(task.vectors) // 100_000)]))
    for start in range(0, len(task.vectors), 50_000):
        index.add(np.ascontiguousarray(task.vectors[start : start + 50_000]))
    build_s = time.perf_counter() - started
    with tempfile.NamedTemporaryFile() as file:
        faiss.write_index(index, file.name)
        size_mb = Path(file.name).stat().st_size / 1e6
    bitmaps = {key: np.packbits(mask, bitorder="little") for key, mask in task.masks.items()}
    selectors = {key: faiss.IDSelectorBitmap(bitmap) for key, bitmap in bitmaps.items()}
    kind = faiss.SearchParametersHNSW if effort_name == "efSearch" else faiss.SearchParametersIVF

    def at_effort(effort: int) -> Search:
        parameters = {key: kind(sel=selector, **{effort_name: effort}) for key, selector in selectors.items()}

        def search(query: int, name: str) -> Sequence[int]:
            params = parameters[name, task.wanted[query]]
            found: Sequence[int] = index.search(task.queries[query : query + 1], DEPTH, params=params)[1][0].tolist()
            return found

        return search

    yield from measured(task, engine, build_s, size_mb, at_effort)


def hnswlib_rows(task: Task) -> Iterator[dict[str, Any]]:
    """hnswlib asks a Python function for every row that it visits."""
    started = time.perf_counter()
    index = hnswlib.Index("ip", task.vectors.shape[1])
    index.init_index(len(task.vectors), M=M, ef_construction=EF_CONSTRUCTION)
    for start in range(0, len(task.vectors), 50_000):
        index.add_items(task.vectors[start : start + 50_000])
    build_s = time.perf_counter() - started
    index.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        index.save_index(f"{folder}/index")
        size_mb = Path(folder, "index").stat().st_size / 1e6
    allowed = {key: mask.tolist().__getitem__ for key, mask in task.masks.items()}

    def at_effort(effort: int) -> Search:
        index.set_ef(max(effort, DEPTH))

        def search(query: int, name: str) -> Sequence[int]:
            try:
                found: Sequence[int] = index.knn_query(
                    task.queries[query], DEPTH, filter=allowed[name, task.wanted[query]]
                )[0][0].tolist()
            except RuntimeError:
                return []  # It raises where its walk met fewer rows than were asked for.
            return found

        return search

    yield from measured(task, "hnswlib HNSW", build_s, size_mb, at_effort)


def qdrant_rows(task: Task) -> Iterator[dict[str, Any]]:
    """Qdrant's own engine in this process: what its server runs, without the server."""
    keys = {name: f"filter_{at}" for at, name in enumerate(task.filters)}  # names are no paths
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        shard = _qdrant_shard(task, keys, folder)
        build_s = time.perf_counter() - started
        size_mb = sum(each.stat().st_blocks * 512 for each in Path(folder).rglob("*") if each.is_file()) / 1e6

        def at_effort(effort: int) -> Search:
            def search(query: int, name: str) -> Sequence[int]:
                wanted = {"modality": task.wanted[query]} | ({keys[name]: 1} if name != "none" else {})
                must = [
                    qdrant_edge.FieldCondition(key=key, match=qdrant_edge.MatchValue(value))
                    for key, value in wanted.items()
                ]
                asked = qdrant_edge.QueryRequest(
                    limit=DEPTH,
                    query=qdrant_edge.Query.Nearest(task.queries[query].tolist()),
                    filter=qdrant_edge.Filter(must=must),
                    params=qdrant_edge.SearchParams(hnsw_ef=effort),
                    with_payload=False,
                    with_vector=False,
                )
                return [int(point.id) for point in shard.query(asked)]

            return search

        yield from measured(task, "Qdrant Edge HNSW", build_s, size_mb, at_effort)
        shard.close()


def _qdrant_shard(task: Task, keys: dict[str, str], folder: str) -> Any:
    """All vectors in one segment with its graph, and indexes on what is filtered by. `keys`: of each filter, in the payload."""
    config = qdrant_edge.EdgeConfig(
        vectors=qdrant_edge.EdgeVectorParams(size=task.vectors.shape[1], distance=qdrant_edge.Distance.Dot),
        hnsw_config=qdrant_edge.HnswIndexConfig(
            m=M, ef_construct=EF_CONSTRUCTION, full_scan_threshold=QDRANT_FULL_SCAN_KB
        ),
        optimizers=qdrant_edge.EdgeOptimizersConfig(default_segment_number=1, max_segment_size=QDRANT_SEGMENT_KB),
        wal_enabled=False,
    )
    shard = qdrant_edge.EdgeShard.create(folder, config)
    for start in range(0, len(task.vectors), QDRANT_BATCH):
        points = [
            qdrant_edge.Point(
                at,
                task.vectors[at].tolist(),
                {keys[name]: int(task.masks[name, task.modalities[at]][at]) for name in task.filters}
                | {"modality": int(task.modalities[at])},
            )
            for at in range(start, min(start + QDRANT_BATCH, len(task.vectors)))
        ]
        shard.update(qdrant_edge.UpdateOperation.upsert_points(points))
    for key in ("modality", *keys.values()):
        shard.update(qdrant_edge.UpdateOperation.create_field_index(key, qdrant_edge.PayloadSchemaType.Integer))
    shard.flush()
    shard.optimize()
    return shard


def main() -> None:
    """Command line: the folder of the task."""
    task = Task(Path(sys.argv[1]))
    lists = max(8, 1 << round(np.log2(len(task.vectors) / 1024)))
    sources = [
        faiss_rows(task, "FAISS IVF_SQ8", f"IVF{lists},SQ8", "nprobe"),
        faiss_rows(task, "FAISS HNSW", f"HNSW{M},Flat", "efSearch"),
        hnswlib_rows(task),
        qdrant_rows(task),
    ]
    for source in sources:
        for row in source:
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
