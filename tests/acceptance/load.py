#!/usr/bin/env python3
"""How many searches a second does a whole cluster answer over HTTP? All of Debian, three nodes, two coordinators, one of them asked.

    apt-get install wrk; pip install numpy
    python tests/acceptance/load.py --granum target/release/granum --data DIR [--shards 4] [--connections 1,8,32]

DIR holds packages.jsonl.zst, docs.f16.npy and bench-queries.f16.npy. Prints a line for each kind of search (linearizable as it is by default, and
with a width of its own; any) and number of connections, each with one search under way at a time. A search that fails ends it.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
from cluster import Cluster

QUESTIONS = 500
KINDS = {
    "linearizable": {},
    "linearizable, hnsw_ef 14": {"params": {"hnsw_ef": 14}},
    "any": {"read": "any"},
}
SCRIPT = """
local bodies, at = {}, 0
for line in io.lines("%s") do bodies[#bodies + 1] = line end
request = function()
  at = at %% #bodies + 1
  return wrk.format("POST", "/collections/debian/points/query", {["Content-Type"] = "application/json"}, bodies[at])
end
done = function(summary, latency)
  local failed = summary.errors.status + summary.errors.timeout + summary.errors.read + summary.errors.connect
  io.write(failed > 0 and string.format("%%d searches failed\\n", failed) or string.format("FIGURES %%.0f searches/s, p50 %%.2f ms, p99 %%.2f ms\\n",
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


def load(cluster, body, vectors, connections, seconds):
    """What wrk says of so many connections."""
    bodies, script = cluster.folder / "bodies", cluster.folder / "load.lua"
    bodies.write_text("\n".join(json.dumps({"query": vector, "limit": 10, **body}) for vector in vectors))
    script.write_text(SCRIPT % bodies)
    url = f"http://127.0.0.1:{cluster.http[0]}"
    told = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", f"-s{script}", url], capture_output=True, text=True, check=True)
    figures = [line for line in told.stdout.splitlines() if line.startswith("FIGURES ")]
    if not figures:
        sys.exit(f"FAILED: wrk says:\n{told.stdout}{told.stderr}")
    return figures[0].removeprefix("FIGURES ")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--granum", required=True, help="the binary")
    parser.add_argument("--data", required=True, type=pathlib.Path)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--connections", default="1,8,32")
    parser.add_argument("--seconds", type=int, default=6, help="of each line")
    parser.add_argument("--settle", type=int, default=60, help="seconds from the import to the first search: seals, merges and graphs")
    asked = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="granum-load-"))
    cluster = Cluster(asked.granum, folder)
    cluster.start()
    try:
        cluster.run("collection", "create", "debian", "--vector", "384:cosine", "--shards", str(asked.shards), "--replication-factor", "3")
        command = [cluster.binary, "import", asked.data / "packages.jsonl.zst", "--collection", "debian", "--id", "id"]
        command += ["--vectors", asked.data / "docs.f16.npy", "--state", folder / "import-state"]
        subprocess.run(command, env=dict(os.environ, GRANUM_URL=",".join(cluster.urls)), check=True, stdout=subprocess.DEVNULL)
        time.sleep(asked.settle)
        waiting = sum(node.metrics_of("granum_shard_recent_documents") for node in cluster.nodes)
        print(f"{waiting:.0f} documents are not sealed, of all replicas", flush=True)
        vectors = np.load(asked.data / "bench-queries.f16.npy")[:QUESTIONS].astype(np.float32).round(5).tolist()
        for connections in map(int, asked.connections.split(",")):
            for kind, body in KINDS.items():
                print(f"{connections:4} connections  {kind:26}", load(cluster, body, vectors, connections, asked.seconds), flush=True)
    finally:
        cluster.stop()


if __name__ == "__main__":
    main()
