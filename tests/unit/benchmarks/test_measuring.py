"""The benchmarks themselves, on the demo's model and for an instant: that they run, never how fast."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import gpu
from benchmarks.__main__ import ORDER, commands
from benchmarks.encoder import agreement, rate
from benchmarks.graphs import ENCODERS, encoders_apart, product_file
from benchmarks.hops import IN_PROCESS, LATE_SEARCH, LONE_SEARCH, SEARCH, verdicts
from benchmarks.http_load import compared
from benchmarks.peers import ratios
from serve_app.local_graph import processes

ROOT = Path(__file__).parents[3]


def test_the_gpu_benchmark_runs_on_a_cpu(tmp_path):
    gpu.main(["--device", "cpu", "--quick", "--out", str(tmp_path)])
    report = json.loads((tmp_path / "gpu.json").read_text())
    kinds = [row["case"].split()[0].rstrip(",") for row in report["rows"]]
    assert kinds == ["images", "images", "texts", "texts", "decode"]
    assert all(row["gflop_each"] > 0 for row in report["rows"] if "gflop_each" in row)


def test_a_rate_counts_the_items_of_each_run():
    runs = []
    assert rate(lambda: runs.append(1), 8, 0.0) > 0
    assert len(runs) == 2, "one to set things up, one that counts"


def test_agreement_is_that_of_the_worst_row():
    near = agreement(np.eye(2, dtype=np.float32), np.array([[1, 0], [0.6, 0.8]], dtype=np.float32))
    assert near == {"largest_difference": pytest.approx(0.6), "smallest_cosine": pytest.approx(0.8)}


def test_rows_are_compared_with_the_best_of_the_plain_loop_for_the_same_kind():
    plain = [
        {"case": "picture, plain loop, batch 1", "requests_per_s": 5.0},
        {"case": "picture, plain loop, batch 32", "requests_per_s": 10.0},
        {"case": "text, plain loop, batch 1", "requests_per_s": 100.0},
    ]
    rows = [{"case": "picture /v1/search, 8 connections", "requests_per_s": 9.0}]
    assert compared(rows, plain)[0]["vs_plain"] == 0.9


def test_ratios_take_the_best_setting_of_each_server():
    rates = {"crossmodal bfloat16": 80.0, "infinity_emb, batch 8": 10.0, "infinity_emb, batch 32": 20.0}
    rows = [{"case": f"picture, {name}, 32 connections", "requests_per_s": rate} for name, rate in rates.items()]
    assert ratios(rows)["pictures: ours over infinity_emb"] == 4.0


def test_hops_are_judged_where_all_parts_were_measured():
    figures = {
        (f"noop, plain, coalesced: {LONE_SEARCH}", 1): (50.0, 10.0),
        (f"noop, plain, a call each: {SEARCH}", 64): (100.0, 400.0),
        (f"noop, plain, coalesced: {SEARCH}", 64): (500.0, 90.0),
        (f"product, plain, coalesced: {LONE_SEARCH}", 1): (20.0, 16.0),
        (f"{IN_PROCESS}, float32", 1): (250.0, 4.0),
        (f"{IN_PROCESS} beside noop, plain, coalesced, float32", 1): (200.0, 5.0),
        (f"{IN_PROCESS} beside product, plain, coalesced, float32", 1): (50.0, 20.0),
    }
    rows = [
        {"case": case, "connections": connections, "requests_per_s": rate, "p50_ms": p50_ms}
        for (case, connections), (rate, p50_ms) in figures.items()
    ]
    late = {"case": f"noop, plain, coalesced: {LATE_SEARCH} 20 ms", "connections": 1, "p50_ms": 30.0, "hops_ms": 10.0}
    assert (
        verdicts([*rows, late], ["plain"])["plain: lone p50 over encode beside it + 1.2 x hops of noop as late"] == 0.5
    )
    assert verdicts(rows, ["plain", "haproxy"]) == {
        "plain: noop coalesced over a call each": 5.0,
        "plain: lone p50 over encode on an idle machine + 1.2 x noop": 1.0,
        "plain: lone p50 over encode beside it + 1.2 x noop": 0.5,
    }


def test_every_benchmark_that_is_run_is_a_module_and_no_other_name_is_taken():
    assert all((ROOT / "benchmarks" / f"{name}.py").is_file() for name in ORDER)
    assert [command[-1] for command in commands(["hops", "encoder"])] == ["benchmarks.encoder", "benchmarks.hops"]


def test_the_measured_graph_is_the_product_with_fixed_replicas_and_threads():
    (application,) = product_file(threads=1, replicas={"ImageEncoder": 2}).content["applications"]
    deployments = {each["name"]: each for each in application["deployments"]}
    assert not any("autoscaling_config" in each for each in deployments.values())
    assert deployments["ImageEncoder"]["num_replicas"] == 2
    assert deployments["Gateway"]["num_replicas"] == 1
    assert {deployments[name]["ray_actor_options"]["num_cpus"] for name in ENCODERS} == {1}


def test_encoders_have_cores_to_themselves_for_a_while():
    cores = os.sched_getaffinity(0)
    names = ["ray::ServeReplica:crossmodal:TextEncoder", "ray::ServeReplica:crossmodal:Gateway"]
    parts = [subprocess.Popen([name], executable=shutil.which("cat"), stdin=subprocess.PIPE) for name in names]
    try:
        pids = [part.pid for part in parts]
        graph = SimpleNamespace(processes=lambda: [each for each in processes() if each.pid in pids])
        with encoders_apart(graph, 1):
            encoder, gateway = (os.sched_getaffinity(pid) for pid in pids)
            assert len(encoder) == 1
            assert gateway == os.sched_getaffinity(0) == cores - encoder
        assert os.sched_getaffinity(0) == cores
        with pytest.raises(ValueError, match="more than"), encoders_apart(graph, len(cores)):
            pass
    finally:
        for part in parts:
            part.communicate()
