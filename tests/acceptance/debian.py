#!/usr/bin/env python3
"""The whole cluster on 63,436 real documents: 3 node processes, 2 coordinators, 4 shards x 3 replicas, checked against numpy.

    pip install numpy zstandard
    python tests/acceptance/debian.py --granum target/release/granum --data DIR [--queries 1000] [--kill] [--keep]

DIR holds packages.jsonl.zst, docs.f16.npy and titles.f16.npy. Prints what it measured, one line a step, and exits with 1 at
the first thing that is wrong. `--kill` sends SIGKILL to one node in the middle of the import, to all of them after it, and to
one coordinator while a client works.
"""

import argparse
import concurrent.futures
import io
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
import zstandard
from cluster import NODES, Cluster, Http, free_ports, wait_until

SHARDS, K = 4, 10
# Enough for a rate; all of them would take half an hour on two cores.
TEXT_DOCUMENTS = 2_000


def say(step, **figures):
    print(f"{step:34}", "  ".join(f"{name} {value}" for name, value in figures.items()), flush=True)


def percentiles(seconds):
    p50, p99 = np.percentile(np.array(seconds) * 1000, [50, 99])
    return {"p50_ms": round(p50, 2), "p99_ms": round(p99, 2)}


def import_documents(cluster, data, kill):
    cluster.run("collection", "create", "debian", "--vector", "384:cosine", "--shards", str(SHARDS), "--replication-factor", "3")
    command = ["import", str(data / "packages.jsonl.zst"), "--collection", "debian", "--id", "id", "--vectors", str(data / "docs.f16.npy"),
               "--state", str(cluster.folder / "import-state")]
    started = time.monotonic()
    environment = dict(os.environ, GRANUM_URL=",".join(cluster.urls))
    child = subprocess.Popen([cluster.binary, *command], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if kill:
        http_client = Http(cluster.http[0])
        wait_until(lambda: child.poll() is not None or http_client.post("/collections/debian/points/count", {})["count"] > 15_000,
                   "a quarter imported")
        cluster.nodes[1].kill()
        say("SIGKILL", node=1, documents=http_client.post("/collections/debian/points/count", {})["count"])
    _, errors = child.communicate()
    if child.returncode:
        sys.exit(f"FAILED: import: {errors[-2000:]}")
    return time.monotonic() - started


def check_all_readable(port, documents):
    client, seen, offset = Http(port), {}, None
    while True:
        page = client.post("/collections/debian/points/scroll", {"limit": 2000, "offset": offset, "with_payload": True})
        seen.update((point["id"], point["payload"]) for point in page["points"])
        offset = page["next_page_offset"]
        if offset is None:
            break
    wrong = [document["id"] for document in documents if seen.get(document["id"]) != document]
    if wrong or len(seen) != len(documents):
        sys.exit(f"FAILED: {len(wrong)} documents are missing or differ, {len(seen)} are there: {wrong[:5]}")


def check_exact(ports, queries, scores_of, keep, wanted):
    """Top-10 of each query against brute force, by score within 1e-3, one question at a time."""
    def ask(at):
        body = {"query": queries[at].tolist(), "limit": K, "params": {"exact": True}}
        if wanted:
            body["filter"] = wanted
        started = time.perf_counter()
        points = client.post("/collections/debian/points/query", body)["points"]
        return time.perf_counter() - started, [point["score"] for point in points]

    seconds, worst = [], 0.0
    client = Http(ports[0])
    for at in range(len(queries)):
        took, found = ask(at)
        seconds.append(took)
        best = np.sort(scores_of(at)[keep])[::-1][:K]
        if len(found) != len(best):
            sys.exit(f"FAILED: query {at}: {len(found)} hits, brute force has {len(best)}")
        worst = max(worst, float(np.abs(best - found).max(initial=0)))
    if worst > 1e-3:
        sys.exit(f"FAILED: a score differs by {worst}")
    return {"queries": len(queries), "worst_difference": f"{worst:.1e}", **percentiles(seconds)}


def throughput(ports, queries, seconds=10, threads=8):
    """Queries a second from several connections at once, over both coordinators."""
    deadline = time.monotonic() + seconds

    def work(thread):
        client, done = Http(ports[thread % len(ports)]), 0
        while time.monotonic() < deadline:
            client.post("/collections/debian/points/query", {"query": queries[(thread * 131 + done) % len(queries)].tolist(), "limit": K})
            done += 1
        return done

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return round(sum(pool.map(work, range(threads))) / seconds)


def kill_a_coordinator(cluster, documents):
    """A client that writes and reads without a pause sees nothing of a coordinator's death but a retry."""
    cluster.run("collection", "create", "busy", "--vector", "4:cosine", "--shards", "2", "--replication-factor", "3")
    lines, vectors = cluster.folder / "busy.jsonl", cluster.folder / "busy.npy"
    lines.write_text("".join(f'{{"id": {row}}}\n' for row in range(documents)))
    np.save(vectors, np.random.default_rng(1).random((documents, 4), dtype=np.float32))
    environment = dict(os.environ, GRANUM_URL=",".join(cluster.urls))
    command = [cluster.binary, "import", str(lines), "--collection", "busy", "--vectors", str(vectors), "--batch", "10", "--concurrency", "2"]
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    survivor = Http(cluster.http[1])
    wait_until(lambda: survivor.post("/collections/busy/points/count", {})["count"] > documents // 10, "a tenth imported")
    cluster.coordinators[0].kill()
    at = survivor.post("/collections/busy/points/count", {})["count"]
    _, errors = child.communicate(timeout=120)
    there = survivor.post("/collections/busy/points/count", {})["count"]
    if child.returncode or there != documents:
        sys.exit(f"FAILED: the import did not move on: {there} of {documents} are there: {errors[-2000:]}")
    # The command line names the dead one first.
    cluster.run("get", "busy", "1", stdout=subprocess.DEVNULL)
    cluster.start([cluster.coordinators[0]])
    say("SIGKILL of a coordinator", documents_before=at, all_there=there)
    cluster.run("collection", "delete", "busy", "--yes", stdout=subprocess.DEVNULL)


def import_text(cluster, data):
    """The rate of an import that embeds: title and text of some documents."""
    lines = cluster.folder / "text.jsonl"
    with open(data / "packages.jsonl.zst", "rb") as file, open(lines, "w") as some:
        rows = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), encoding="utf-8")
        some.writelines(row for _, row in zip(range(TEXT_DOCUMENTS), rows))
    started = time.monotonic()
    cluster.run("import", str(lines), "--collection", "text", "--create", "--id", "id", "--text", "title,text",
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = time.monotonic() - started
    say("imported with text embedding", documents=TEXT_DOCUMENTS, seconds=round(seconds, 1), documents_a_second=round(TEXT_DOCUMENTS / seconds))
    cluster.run("collection", "delete", "text", "--yes", stdout=subprocess.DEVNULL)


def ready_with_sample(binary, folder):
    """`granum dev --sample`, on a new directory and again on the same: what it says of itself."""
    for what in ("granum dev --sample, first start", "granum dev --sample, second start"):
        port = free_ports(4)[0]
        command = [binary, "dev", "--sample", "--port", str(port), "--data-dir", str(folder / "dev")]
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        guard = threading.Timer(120, child.kill)
        guard.start()
        told = []
        for line in child.stdout:
            told.append(line)
            if "Ctrl-C" in line:
                break
        guard.cancel()
        child.send_signal(signal.SIGTERM)
        ready = re.search(r"ready in ([0-9.]+) s", "".join(told))
        if child.wait(60) or not ready:
            sys.exit(f"FAILED: {what}: {''.join(told)}")
        say(what, ready_seconds=ready[1])


def filter_of(sizes, share):
    """A filter on the size that about `share` pass, and who does: of the largest, whose sizes are nearly all different."""
    bound = float(np.quantile(sizes, 1 - share))
    keep = sizes >= bound
    if not 0.9 < keep.mean() / share < 1.1:
        sys.exit(f"FAILED: {keep.mean():.2%} pass a filter that {share:.0%} should")
    return {"must": [{"key": "installed_size", "range": {"gte": bound}}]}, keep


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--granum", required=True, help="the binary")
    parser.add_argument("--data", required=True, type=pathlib.Path)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    asked = parser.parse_args()

    with open(asked.data / "packages.jsonl.zst", "rb") as file:
        lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), encoding="utf-8")
        documents = [json.loads(line) for line in lines]
    vectors = np.load(asked.data / "docs.f16.npy").astype(np.float32)
    queries = np.load(asked.data / "titles.f16.npy")[:: len(vectors) // asked.queries][: asked.queries].astype(np.float32)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="granum-acceptance-"))
    print(f"in {folder}")
    ready_with_sample(asked.granum, folder)
    cluster = Cluster(asked.granum, folder)

    started = time.monotonic()
    cluster.start()
    say("started", seconds=round(time.monotonic() - started, 2))
    seconds = import_documents(cluster, asked.data, asked.kill)
    say("imported", documents=len(documents), seconds=round(seconds, 1), documents_a_second=round(len(documents) / seconds))
    check_all_readable(cluster.http[0], documents)
    say("every document reads back")
    if asked.kill:
        cluster.start([cluster.nodes[1]])
        wait_until(cluster.caught_up, "the restarted node caught up")
        for node in cluster.nodes:
            node.kill()
        cluster.start(cluster.nodes)
        wait_until(cluster.caught_up, "all restarted nodes caught up")
        check_all_readable(cluster.http[1], documents)
        say("every document reads back after SIGKILL of all nodes")
        kill_a_coordinator(cluster, 5_000)

    similarity = queries @ vectors.T
    say("exact", **check_exact(cluster.http, queries, lambda at: similarity[at], slice(None), None))
    sizes = np.array([document["installed_size"] for document in documents])
    for share in (0.01, 0.1, 0.5):
        wanted, keep = filter_of(sizes, share)
        say(f"exact, {keep.mean():.1%} pass the filter", **check_exact(cluster.http, queries, lambda at: similarity[at], keep, wanted))
    say("throughput, 8 connections", queries_a_second=throughput(cluster.http, queries))
    say("anonymous memory of the nodes", MiB=[round(node.anonymous_bytes() / 2**20) for node in cluster.nodes])
    import_text(cluster, asked.data)
    cluster.restart_sealed()
    check_all_readable(cluster.http[0], documents)
    say("anonymous memory, all sealed", MiB=[round(node.anonymous_bytes() / 2**20) for node in cluster.nodes],
        vectors_MiB=round(vectors.size * 2 / 2**20))
    before, shards = cluster.disk_bytes(), cluster.disk_bytes("shards")
    cluster.run("collection", "delete", "debian", "--yes", stdout=subprocess.DEVNULL)
    wait_until(lambda: all(cluster.shards_of(at) == 1 for at in range(NODES)), "only the register is left")
    say("a deleted collection gave its disk back", MB_before=round(before / 1e6), of_shards=round(shards / 1e6),
        MB_after=round(cluster.disk_bytes() / 1e6), of_shards_after=round(cluster.disk_bytes("shards") / 1e6, 1))
    cluster.stop()
    say("stopped by SIGTERM, exit codes 0")
    if not asked.keep:
        subprocess.run(["rm", "-r", str(folder)], check=True)


if __name__ == "__main__":
    main()
