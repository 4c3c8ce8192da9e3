"""Does the chart render, with every values file, under both engines, to what Kubernetes takes?"""

import os

import helm_python
import kubernetes_validate
import pytest
import yaml

import chart

# The oldest that Chart.yaml allows, one between, the newest whose schema there is.
KUBERNETES = ("1.27", "1.31", "1.37")


@pytest.mark.parametrize("name", chart.VALUES)
def test_kubernetes_takes_every_object(name):
    for document in chart.matrix(name):
        for version in KUBERNETES:
            kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("name", chart.VALUES)
def test_both_engines_render_the_same_objects(name):
    if "HELM_BIN" not in os.environ and not os.environ.get("CI"):
        pytest.skip("HELM_BIN names no helm; `bash .ci/run chart` installs one")
    assert chart.in_order([chart.render_3(chart.values(name))]) == chart.matrix(name)


def test_the_chart_lints_strictly():
    report = helm_python.lint(chart.CHART, strict=True)
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []


def test_the_chart_packs_and_renders_from_its_archive(tmp_path):
    archive = helm_python.package(chart.CHART, destination=tmp_path)
    assert chart.objects({}, chart=archive) == chart.matrix("defaults")


def test_the_defaults_render_as_recorded():
    """Read a difference as a user's upgrade; to record a wanted one: GOLDEN=write."""
    golden = chart.HERE / "golden" / "defaults.yaml"
    text = yaml.safe_dump_all(chart.matrix("defaults"), sort_keys=False, width=150)
    if os.environ.get("GOLDEN") == "write":
        golden.write_text(text)
    assert text == golden.read_text(), "GOLDEN=write records the new rendering"


def test_release_and_namespace_are_in_every_address():
    documents = chart.objects({}, release="other", namespace="elsewhere")
    assert chart.flag(documents, "node", "advertise") == "$(POD_NAME).other-granum-node.elsewhere.svc.cluster.local"
    assert "demo" not in yaml.safe_dump_all(documents)
    assert "search" not in yaml.safe_dump_all(documents)


def test_a_release_named_after_the_chart_is_not_named_twice():
    documents = chart.objects({}, release="my-granum")
    assert chart.workload(documents, "node")["metadata"]["name"] == "my-granum-node"


def test_the_notes_warn_of_open_access_of_few_nodes_and_of_outside():
    plain = chart.notes({})
    assert "--insecure" in plain and "nobody is authenticated" in plain
    assert "OUTSIDE" not in plain and "fewer than 3" not in plain
    assert "OUTSIDE" in chart.notes(chart.values("load-balancer"))
    assert "no node may fail" in chart.notes(chart.values("single"))
    assert "2 is worse than 1" in chart.notes(chart.values("two-nodes"))
    assert "DELETED" in chart.notes(chart.values("storage"))
