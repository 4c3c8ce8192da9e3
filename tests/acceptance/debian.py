#!/usr/bin/env python3
"""The whole cluster on 63,436 real documents: 3 node processes, 2 coordinators, 4 shards x 3 replicas, checked against numpy.

    pip install numpy zstandard
    python tests/acceptance/debian.py --granum target/release/granum --data DIR [--queries 1000] [--kill] [--keep]

DIR holds packages.jsonl.zst, docs.f16.npy and titles.f16.npy. Prints what it measured, one line a step, and exits with 1 at
the first thing that is wrong. `--kill` kills one node with SIGKILL in the middle of the import, and all of them after it.
"""

import argparse
import concurrent.futures
import http.client
import io
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import numpy as np
import zstandard

NODES, COORDINATORS, SHARDS, K = 3, 2, 4, 10


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_until(condition, what, timeout_s=120):
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"FAILED: {what}: not within {timeout_s} s")
        time.sleep(0.1)


class Process:
    """One role of the binary, started with the same arguments each time."""

    def __init__(self, binary, folder, name, metrics, arguments):
        self.command = [binary, *arguments, f"--listen-metrics=127.0.0.1:{metrics}"]
        self.metrics, self.log, self.child = metrics, folder / f"{name}.log", None

    def start(self):
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self):
        self.child.kill()
        self.child.wait()

    def ready(self):
        if self.child.poll() is not None:
            sys.exit(f"FAILED: {self.command} ended:\n{self.log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/readyz", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def anonymous_bytes(self):
        for line in pathlib.Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1]) * 1024


class Cluster:
    """Three nodes and two coordinators."""

    def __init__(self, binary, folder):
        self.binary = binary
        ports = free_ports(3 * (NODES + COORDINATORS))
        trios = [ports[at:at + 3] for at in range(0, len(ports), 3)]
        data = ",".join(f"127.0.0.1:{trio[0]}" for trio in trios[:NODES])
        self.nodes = [
            Process(binary, folder, f"node{at}", metrics, [
                "node", f"--data-dir={folder}/node{at}", f"--listen-data=127.0.0.1:{port}",
                f"--listen-raft=127.0.0.1:{raft}", f"--bootstrap={data}"])
            for at, (port, raft, metrics) in enumerate(trios[:NODES])]
        self.coordinators = [
            Process(binary, folder, f"coordinator{at}", metrics, [
                "coordinator", f"--nodes={data}", f"--listen-http=127.0.0.1:{http_port}", f"--listen-grpc=127.0.0.1:{grpc}"])
            for at, (http_port, grpc, metrics) in enumerate(trios[NODES:])]
        self.http = [trio[0] for trio in trios[NODES:]]
        self.urls = [f"http://127.0.0.1:{trio[1]}" for trio in trios[NODES:]]

    def start(self, processes=None):
        processes = processes or self.nodes + self.coordinators
        for process in processes:
            process.start()
        wait_until(lambda: all(process.ready() for process in processes), "ready")

    def run(self, *arguments, **options):
        """The CLI, told of both coordinators."""
        environment = dict(os.environ, GRANUM_URL=",".join(self.urls))
        return subprocess.run([self.binary, *arguments], env=environment, check=True, text=True, **options)

    def status(self):
        return json.loads(self.run("status", "--json", stdout=subprocess.PIPE).stdout)

    def stop(self):
        for process in self.coordinators + self.nodes:
            if process.child and process.child.poll() is None:
                process.child.send_signal(signal.SIGTERM)
        codes = [process.child.wait(60) for process in self.coordinators + self.nodes if process.child]
        if any(codes):
            sys.exit(f"FAILED: exit codes after SIGTERM: {codes}")


class Http:
    """One keep-alive connection to a coordinator."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def post(self, path, body):
        self.connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = json.loads(self.connection.getresponse().read())
        if answer["status"] != "ok":
            sys.exit(f"FAILED: {path}: {answer['status']}")
        return answer["result"]


def say(step, **figures):
    print(f"{step:34}", "  ".join(f"{name} {value}" for name, value in figures.items()), flush=True)


def percentiles(seconds):
    p50, p99 = np.percentile(np.array(seconds) * 1000, [50, 99])
    return {"p50_ms": round(p50, 2), "p99_ms": round(p99, 2)}


def import_documents(cluster, data, kill):
    cluster.run("collection", "create", "debian", "--vector", "384:cosine", "--shards", str(SHARDS), "--replication-factor", "3")
    command = ["import", str(data / "packages.jsonl.zst"), "--collection", "debian", "--id", "id", "--vectors", str(data / "docs.f16.npy")]
    started = time.monotonic()
    environment = dict(os.environ, GRANUM_URL=",".join(cluster.urls))
    child = subprocess.Popen([cluster.binary, *command], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if kill:
        http_client = Http(cluster.http[0])
        wait_until(lambda: http_client.post("/collections/debian/points/count", {})["count"] > 15_000, "a quarter imported")
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
        body = {"query": queries[at].tolist(), "limit": K}
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
        wait_until(lambda: caught_up(cluster), "the restarted node caught up")
        for node in cluster.nodes:
            node.kill()
        cluster.start(cluster.nodes)
        wait_until(lambda: caught_up(cluster), "all restarted nodes caught up")
        check_all_readable(cluster.http[1], documents)
        say("every document reads back after SIGKILL of all nodes")

    similarity = queries @ vectors.T
    say("exact", **check_exact(cluster.http, queries, lambda at: similarity[at], slice(None), None))
    sizes = np.array([document["installed_size"] for document in documents])
    for share in (0.01, 0.1, 0.5):
        bound = float(np.quantile(sizes, share))
        keep = sizes < bound
        wanted = {"must": [{"key": "installed_size", "range": {"lt": bound}}]}
        say(f"exact, {keep.mean():.1%} pass the filter", **check_exact(cluster.http, queries, lambda at: similarity[at], keep, wanted))
    say("throughput, 8 connections", queries_a_second=throughput(cluster.http, queries))
    say("anonymous memory of the nodes", MiB=[round(node.anonymous_bytes() / 2**20) for node in cluster.nodes])
    cluster.run("collection", "delete", "debian", "--yes", stdout=subprocess.DEVNULL)
    wait_until(lambda: not any((folder / f"node{at}" / "shards").exists() and any((folder / f"node{at}" / "shards").iterdir()) for at in range(NODES)),
               "a deleted collection's folders are gone")
    say("a deleted collection gave its disk back")
    cluster.stop()
    say("stopped by SIGTERM, exit codes 0")
    if not asked.keep:
        subprocess.run(["rm", "-r", str(folder)], check=True)


def caught_up(cluster):
    status = cluster.status()
    replicas = [replica for collection in status["collections"] for shard in collection["shards"] for replica in shard["replicas"]]
    return all(node["reachable"] for node in status["nodes"]) and all(replica["reachable"] and replica["lag_entries"] == 0 for replica in replicas)


if __name__ == "__main__":
    main()
