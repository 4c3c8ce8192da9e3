#!/usr/bin/env python3
"""Does a node's memory grow with its dense vectors once they are sealed? The same rows at 96 and at 768 components, 3 replicas.

Codes of 4 bits a component and links stay in memory, a quarter of the rows' bytes, in whole pages of 2 MiB a segment; the rows
themselves do not.

    pip install numpy zstandard
    python tests/acceptance/memory.py --granum target/release/granum [--documents 30000]

Prints anonymous resident memory of each node, all sealed and started again, and exits with 1 if 8 times the vectors take more
than their codes in large pages and a tenth of what they grew by.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from cluster import Cluster

# Bytes that a segment's codes are rounded up to, and segments a node may hold here: two shards of two.
LARGE_PAGE, SEGMENTS = 2 << 20, 4


def sealed_bytes(binary, documents, dimension):
    """Anonymous memory of the node that has most of it, holding sealed rows only."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="granum-memory-"))
    lines, vectors = folder / "rows.jsonl", folder / "rows.npy"
    lines.write_text("".join(f'{{"id": {row}}}\n' for row in range(documents)))
    np.save(vectors, np.random.default_rng(1).standard_normal((documents, dimension), dtype=np.float32).astype(np.float16))
    cluster = Cluster(binary, folder)
    cluster.start()
    cluster.run("import", str(lines), "--collection", "rows", "--create", "--vectors", str(vectors),
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    cluster.restart_sealed()
    used = [node.anonymous_bytes() for node in cluster.nodes]
    shown = "  ".join(f"{one / 2**20:.1f}" for one in used)
    print(f"{documents} rows of {dimension} components, {vectors.stat().st_size / 2**20:.0f} MiB of vectors: {shown} MiB", flush=True)
    cluster.stop()
    subprocess.run(["rm", "-r", str(folder)], check=True)
    return max(used)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--granum", required=True, help="the binary")
    parser.add_argument("--documents", type=int, default=30_000)
    asked = parser.parse_args()
    small, large = (sealed_bytes(asked.granum, asked.documents, dimension) for dimension in (96, 768))
    grew, vectors = large - small, asked.documents * (768 - 96) * 2
    codes = vectors / 4 + SEGMENTS * LARGE_PAGE
    if grew > codes + vectors / 10:
        sys.exit(f"FAILED: memory grew by {grew} bytes with {vectors} bytes of vectors")


if __name__ == "__main__":
    main()
