"""Does the binary take what the chart renders? The pods' own arguments, files and probes, as processes here.

No kubelet is involved: volumes are folders, names are loopback addresses, and nothing enforces limits or the user.
"""

import json
import os
import subprocess
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

import chart
import cluster

if not cluster.BINARY.exists():
    assert not os.environ.get("CI"), f"{cluster.BINARY} must be built before this"
    pytest.skip(f"{cluster.BINARY} is not built", allow_module_level=True)


def request(url, method="GET", body=None):
    """The JSON answer of a coordinator."""
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return json.load(answer)


def started(name, folder):
    """The cluster that the values file `name` renders, not yet started."""
    return cluster.Cluster(chart.matrix(name), folder)


@pytest.mark.parametrize("name", ["config", "single"])
def test_rendered_pods_serve_drain_and_come_back(name, tmp_path):
    with started(name, tmp_path).owned() as pods:
        pods.start()
        url = f"http://{pods.of('coordinator')[0].address}:6333"
        replicas = min(3, len(pods.of("node")))
        schema = {"vectors": {"size": 4, "distance": "Dot"}, "shard_number": 2, "replication_factor": replicas}
        request(f"{url}/collections/grains", "PUT", schema)
        points = [{"id": row, "vector": [row, 1, 0, 0], "payload": {"row": row}} for row in range(1, 6)]
        request(f"{url}/collections/grains/points?wait=true", "PUT", {"points": points})

        assert set(pods.stop().values()) == {0}, "SIGTERM drains and exits 0"

        pods.start()
        found = request(f"{url}/collections/grains/points/query", "POST", {"query": [1, 0, 0, 0], "limit": 3})
        assert [point["id"] for point in found["result"]["points"]] == [5, 4, 3]


def test_the_metrics_port_serves_metrics_and_health_and_nothing_else(tmp_path):
    """Others have served their whole API there, unguarded."""
    with started("single", tmp_path).owned() as pods:
        pods.start()
        for pod in pods.pods:
            with urllib.request.urlopen(f"http://{pod.address}:6336/metrics", timeout=30) as answer:
                families = list(text_string_to_metric_families(answer.read().decode()))
            assert families
            assert [family.name for family in families if not family.name.startswith(("granum_", "process_"))] == []
            for path in ("/", "/collections", "/debug", "/debug/pprof", "/config", "/shutdown"):
                assert pod.get("metrics", path) == 404, path


def test_a_node_beyond_the_seeds_joins(tmp_path):
    """As after `helm upgrade --set node.replicas=5`: the new pods know the first three only."""
    with started("five-nodes", tmp_path).owned() as pods:
        pods.pods = pods.of("node")[:4] + pods.of("coordinator")[:1]
        pods.start()
        assert len(pods.of("node")) == 4


def test_the_pod_of_helm_test_succeeds_when_the_cluster_answers_and_only_then(tmp_path):
    with started("single", tmp_path).owned() as pods:
        (pod,) = chart.of_kind(pods.documents, "Pod")
        arguments = [pods.with_addresses(argument) for argument in pod["spec"]["containers"][0]["args"]]

        def status():
            return subprocess.run([cluster.BINARY, *arguments], timeout=60, capture_output=True, text=True)

        before = status()
        assert before.returncode != 0, before.stdout
        pods.start()
        after = status()
        assert after.returncode == 0, after.stderr


def test_a_setting_that_the_binary_does_not_know_stops_it_by_name(tmp_path):
    """A misspelt setting must not start a node with a default."""
    documents = chart.objects({})
    (settings,) = [one["data"] for one in chart.of_kind(documents, "ConfigMap") if "node.toml" in one["data"]]
    settings["node.toml"] += "no_such_setting = 1\n"
    with cluster.Cluster(documents, tmp_path).owned() as pods:
        pod = pods.of("node")[0]
        pod.start()
        assert pod.process.wait(60) != 0
        assert "no_such_setting" in pod.log()
