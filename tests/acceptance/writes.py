#!/usr/bin/env python3
"""What does durability cost a write? The same import into the same cluster, with its syncs and with every sync switched off.

Three nodes, two coordinators, 4 shards x 3 replicas; documents of 1.6 KB (384 components of f32 and some numbers) in batches
of 100, acknowledged when a majority of replicas has them on disk. Without syncs the nodes run under libeatmydata, which
answers fsync, fdatasync and msync at once: the same binary, not another build. Runs take turns, so that both meet the
same machine.

    apt-get install eatmydata; pip install numpy
    python tests/acceptance/writes.py --granum target/release/granum [--documents 20000] [--rounds 3]

Prints each run with where its time went, and the ratio of the medians.
"""

import argparse
import collections
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from cluster import Cluster, Http, wait_until

BATCH, CONCURRENCY, SHARDS, DIMENSION = 100, 8, 4, 384
EAT_MY_DATA = "libeatmydata.so"
TICKS = os.sysconf("SC_CLK_TCK")


def made_up(folder, documents):
    """The documents, as a file of lines and one of vectors, and how many."""
    lines, vectors = folder / "rows.jsonl", folder / "rows.npy"
    lines.write_text("".join(json.dumps({"id": row, "rank": row % 1000, "price": row / 7}) + "\n" for row in range(documents)))
    np.save(vectors, np.random.default_rng(1).standard_normal((documents, DIMENSION), dtype=np.float32))
    return lines, vectors, documents


def processor_seconds(status):
    """User and system time in a stat file of a process or thread."""
    fields = status.read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def by_thread(nodes):
    """Processor seconds of all nodes by the names of their threads; those of threads that have ended, which built, under `ended`."""
    seconds = collections.Counter()
    for node in nodes:
        process = pathlib.Path(f"/proc/{node.child.pid}")
        whole = processor_seconds(process / "stat")
        for thread in (process / "task").iterdir():
            try:
                own, name = processor_seconds(thread / "stat"), (thread / "comm").read_text()
            except OSError:  # It has ended since it was listed.
                continue
            seconds[re.sub(r"[-\d]+$", "", name.strip())] += own
            whole -= own
        seconds["ended"] += max(whole, 0)
    return seconds


def syncs(nodes, what):
    """The `count` or the `sum` of seconds of the syncs of all nodes' logs."""
    return sum(node.metrics_of(f"granum_log_sync_duration_seconds_{what}") for node in nodes)


def import_once(binary, files, durable):
    """Documents a second, and where the time of the nodes went."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="granum-writes-"))
    cluster = Cluster(binary, folder)
    if not durable:
        for node in cluster.nodes:
            node.command = ["env", f"LD_PRELOAD={EAT_MY_DATA}", *node.command]
    cluster.start()
    cluster.run("collection", "create", "rows", "--vector", f"{DIMENSION}:cosine:f32", "--shards", str(SHARDS),
                "--replication-factor", "3", stdout=subprocess.DEVNULL)
    lines, vectors, documents = files
    before, count, seconds = by_thread(cluster.nodes), syncs(cluster.nodes, "count"), syncs(cluster.nodes, "sum")
    began = time.monotonic()
    cluster.run("import", str(lines), "--collection", "rows", "--vectors", str(vectors), "--batch", str(BATCH), "--concurrency",
                str(CONCURRENCY), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall = time.monotonic() - began
    count, seconds = syncs(cluster.nodes, "count") - count, syncs(cluster.nodes, "sum") - seconds
    used = by_thread(cluster.nodes) - before
    wait_until(cluster.caught_up, "every replica has every document")
    held = Http(cluster.http[0]).post("/collections/rows/points/count", {})["count"]
    if held != documents:
        sys.exit(f"FAILED: {documents} documents were acknowledged, {held} are there")
    cluster.stop()
    subprocess.run(["rm", "-r", str(folder)], check=True)
    threads = "  ".join(f"{name} {share / wall / os.cpu_count():.0%}" for name, share in used.most_common(6))
    print(f"{'with' if durable else 'without'} syncs: {documents / wall:,.0f} documents/s; {count:,.0f} syncs of three logs of {seconds / max(count, 1) * 1000:.2f} ms, "
          f"each log in one {seconds / wall / len(cluster.nodes):.0%} of the time; processors: {threads}", flush=True)
    return documents / wall


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--granum", required=True, help="the binary")
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    if "cannot be preloaded" in subprocess.run(["true"], env={"LD_PRELOAD": EAT_MY_DATA}, stderr=subprocess.PIPE, text=True).stderr:
        sys.exit(f"{EAT_MY_DATA} is missing: apt-get install eatmydata")
    rates = {True: [], False: []}
    with tempfile.TemporaryDirectory(prefix="granum-writes-") as folder:
        files = made_up(pathlib.Path(folder), asked.documents)
        for _ in range(asked.rounds):
            for durable, measured in rates.items():
                measured.append(import_once(asked.granum, files, durable))
    durable, other = (statistics.median(rates[kind]) for kind in (True, False))
    print(f"medians of {asked.rounds}: {durable:,.0f} documents/s durable, {other:,.0f} without syncs: {durable / other:.0%}")


if __name__ == "__main__":
    main()
