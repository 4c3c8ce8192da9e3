"""The chart, rendered by real Helm engines: what every test here starts from.

Two engines, so that no template leans on the habits of one: Helm 4's own library (package helm-python-sdk), and the
command `helm` 3.6.2 where HELM_BIN names it (.ci/run does). Neither asks a cluster or the network.
"""

import functools
import json
import os
import pathlib
import subprocess
import tempfile

import helm_python
import yaml

HERE = pathlib.Path(__file__).parent
CHART = HERE.parent / "granum"
VALUES = sorted(path.stem for path in (HERE / "values").glob("*.yaml"))
RELEASE, NAMESPACE = "demo", "search"
ROLES = ("node", "coordinator")


class Refused(Exception):
    """The engine rendered nothing; the text says why."""


def values(name):
    """The values file `name` of the matrix, as a map."""
    return yaml.safe_load((HERE / "values" / f"{name}.yaml").read_text()) or {}


def defaults():
    """The chart's own values."""
    return yaml.safe_load((CHART / "values.yaml").read_text())


def render_4(overrides, chart=CHART, release=RELEASE, namespace=NAMESPACE):
    """Template path -> rendered text, notes included, by Helm 4."""
    with helm_python.Chart.load(chart) as loaded:
        try:
            loaded.validate_schema(overrides)
            return loaded.render(overrides, name=release, namespace=namespace)
        except helm_python.HelmError as refusal:
            raise Refused(str(refusal)) from refusal


def render_3(overrides, chart=CHART, release=RELEASE, namespace=NAMESPACE):
    """All rendered manifests as one text, without notes, by Helm 3. Skips nothing: HELM_BIN must be set."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(overrides, file)
        file.flush()
        command = [os.environ["HELM_BIN"], "template", release, str(chart), "--namespace", namespace]
        command += ["--kube-version", "1.31.0", "--values", file.name]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if run.returncode != 0:
        raise Refused(run.stderr)
    return run.stdout


def objects(overrides, **options):
    """The Kubernetes objects as Helm 4 renders them, in a stable order."""
    rendered = render_4(overrides, **options)
    return in_order(text for path, text in rendered.items() if not path.endswith("NOTES.txt"))


def notes(overrides):
    """What Helm prints after an installation."""
    return next(text for path, text in render_4(overrides).items() if path.endswith("NOTES.txt"))


def in_order(texts):
    """The objects in these YAML texts, sorted by kind and name."""
    found = [document for text in texts for document in yaml.safe_load_all(text) if document]
    return sorted(found, key=lambda document: (document["kind"], document["metadata"]["name"]))


@functools.cache
def matrix(name):
    """The objects for the values file `name`; do not change them."""
    return objects(values(name))


def of_kind(documents, kind):
    """Those objects that are of `kind`."""
    return [document for document in documents if document["kind"] == kind]


def workload(documents, role):
    """The StatefulSet of the nodes or the Deployment of the coordinators."""
    kind = {"node": "StatefulSet", "coordinator": "Deployment"}[role]
    (found,) = of_kind(documents, kind)
    return found


def pods(documents):
    """(name, pod metadata, pod spec) of everything that makes pods, the test's pod included."""
    for document in documents:
        if document["kind"] in ("StatefulSet", "Deployment"):
            template = document["spec"]["template"]
            yield document["metadata"]["name"], template["metadata"], template["spec"]
        elif document["kind"] == "Pod":
            yield document["metadata"]["name"], document["metadata"], document["spec"]


def container(documents, role):
    """The one container of a role's pods."""
    (found,) = workload(documents, role)["spec"]["template"]["spec"]["containers"]
    return found


def flag(documents, role, name):
    """The value of `--name=value` among a role's arguments."""
    (found,) = [arg.split("=", 1)[1] for arg in container(documents, role)["args"] if arg.startswith(f"--{name}=")]
    return found
