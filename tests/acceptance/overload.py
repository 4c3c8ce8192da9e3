#!/usr/bin/env python3
"""What do clients see that ask for more than the cluster can answer? Many connections, exact searches of all of Debian.

Three nodes, two coordinators, 2 shards x 3 replicas; searches are linearizable, a question a connection at a time.

    pip install numpy
    python tests/acceptance/overload.py --granum target/release/granum --data DIR [--connections 200] [--timeout 2]

DIR holds packages.jsonl.zst, docs.f16.npy and titles.f16.npy. Prints the answers by HTTP status, the latency of those that were
answered, and what the coordinators repeated.
"""

import argparse
import collections
import http.client
import json
import pathlib
import random
import subprocess
import tempfile
import threading
import time

import numpy as np
from cluster import Cluster, wait_until

QUESTIONS = 200


def ask(cluster, bodies, path, number, deadline, told):
    """One connection's questions until the deadline, told as pairs of status and seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", cluster.http[number % len(cluster.http)], timeout=60)
    question = number
    while time.monotonic() < deadline:
        began = time.monotonic()
        connection.request("POST", path, bodies[question % len(bodies)], {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        told.append((answer.status, time.monotonic() - began))
        question += 1
        # Who is refused as busy comes again when it was told to, as clients do.
        time.sleep(float(answer.getheader("Retry-After", "0")) * random.uniform(0.5, 1.5))


def busy_repeats(cluster):
    """Calls to shards that coordinators have repeated because they were refused as busy."""
    return sum(one.metrics_of("granum_coordinator_retries_total", '{failure="busy"') for one in cluster.coordinators)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--granum", required=True, help="the binary")
    parser.add_argument("--data", required=True, type=pathlib.Path)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--timeout", type=int, help="seconds that a question may take; the cluster's default where it is not given")
    parser.add_argument("--seconds", type=int, default=15)
    asked = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="granum-overload-"))
    cluster = Cluster(asked.granum, folder)
    cluster.start()
    cluster.run("collection", "create", "debian", "--vector", "384:cosine", "--shards", "2", "--replication-factor", "3",
                stdout=subprocess.DEVNULL)
    cluster.run("import", str(asked.data / "packages.jsonl.zst"), "--collection", "debian", "--id", "id", "--vectors",
                str(asked.data / "docs.f16.npy"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(cluster.caught_up, "every replica has every document")
    titles = np.load(asked.data / "titles.f16.npy", mmap_mode="r")[:QUESTIONS].astype(np.float32)
    bodies = [json.dumps({"query": title.tolist(), "limit": 10, "params": {"exact": True}}) for title in titles]
    path = "/collections/debian/points/query" + (f"?timeout={asked.timeout}" if asked.timeout else "")
    repeated = -busy_repeats(cluster)
    told, deadline = [], time.monotonic() + asked.seconds
    threads = [threading.Thread(target=ask, args=(cluster, bodies, path, number, deadline, told)) for number in range(asked.connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = collections.Counter(status for status, _ in told)
    answered = np.array([seconds for status, seconds in told if status == 200]) * 1000
    p50, p99 = np.percentile(answered, [50, 99]) if len(answered) else (0, 0)
    repeated += busy_repeats(cluster)
    print(f"{dict(sorted(statuses.items()))}; answered p50 {p50:,.0f} ms, p99 {p99:,.0f} ms; {repeated:,.0f} calls repeated", flush=True)
    cluster.stop()
    subprocess.run(["rm", "-r", str(folder)], check=True)


if __name__ == "__main__":
    main()
