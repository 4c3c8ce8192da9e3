"""A cluster of real processes for the acceptance runs: three nodes, two coordinators, killed and asked as a user would."""

import http.client
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request

NODES, COORDINATORS = 3, 2
# Below the ports that the system hands out by itself (net.ipv4.ip_local_port_range): a killed process finds its own free again.
PORTS = range(15_000, 32_000)


def free_ports(count):
    """`count` ports in a row that nobody listens on now."""
    for _ in range(100):
        first = random.randrange(PORTS.start, PORTS.stop - count)
        sockets = []
        try:
            for port in range(first, first + count):
                sockets.append(socket.socket())
                sockets[-1].bind(("127.0.0.1", port))
            return list(range(first, first + count))
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
    sys.exit("FAILED: no free ports")


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

    def start(self, *more):
        """Starts it, with `more` arguments this once."""
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen([*self.command, *more], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

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

    def metrics_of(self, name, labels=""):
        """The sum of a metric over its labels, or over those that begin like this."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        mine = (line for line in lines if line.split("{")[0].split(" ")[0] == name and line.startswith(name + labels))
        return sum(float(line.rsplit(" ", 1)[1]) for line in mine)

    def anonymous_bytes(self):
        """Memory of its own that is resident, mapped files apart."""
        for line in pathlib.Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1]) * 1024


class Cluster:
    """Three nodes and two coordinators."""

    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder
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

    def start(self, processes=None, more=()):
        """Starts processes, all if none is named, with `more` arguments this once, and returns when they are ready."""
        processes = processes or self.nodes + self.coordinators
        for process in processes:
            process.start(*more)
        wait_until(lambda: all(process.ready() for process in processes), "ready")

    def run(self, *arguments, **options):
        """The CLI, told of both coordinators."""
        environment = dict(os.environ, GRANUM_URL=",".join(self.urls))
        return subprocess.run([self.binary, *arguments], env=environment, check=True, text=True, **options)

    def status(self):
        return json.loads(self.run("status", "--json", stdout=subprocess.PIPE).stdout)

    def caught_up(self):
        """Whether every replica has applied what its leader has."""
        status = self.status()
        shards = [shard for collection in status["collections"] for shard in collection["shards"]]
        replicas = [replica for shard in shards for replica in shard["replicas"]]
        return all(node["reachable"] for node in status["nodes"]) and all(replica["reachable"] and replica["lag_entries"] == 0 for replica in replicas)

    def restart_sealed(self):
        """Seals all that the nodes hold, and starts them again: what they keep in memory then is of sealed rows only."""
        for more in (["--seal-bytes=1"], []):
            for node in self.nodes:
                node.kill()
            self.start(self.nodes, more)
            wait_until(self.caught_up, "the restarted nodes caught up")
            wait_until(lambda: sum(node.metrics_of("granum_shard_recent_documents") for node in self.nodes) == 0, "everything is sealed")

    def shards_of(self, node):
        """Replicas in a node's folder, the register's too."""
        return sum(1 for _ in (self.folder / f"node{node}" / "shards").iterdir())

    def disk_bytes(self, below=""):
        """What the nodes' folders take on disk, or one folder of each: links and holes counted as the file system does."""
        folders = [f"{self.folder}/node{at}/{below}" for at in range(NODES)]
        told = subprocess.run(["du", "-s", "-B1", *folders], stdout=subprocess.PIPE, text=True, check=True).stdout
        return sum(int(line.split()[0]) for line in told.splitlines())

    def stop(self):
        """SIGTERM to all: exit code 0 is part of what is promised."""
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
