"""Does values.schema.json take what it should, and refuse the rest with the name of the key?"""

import copy
import json
import os
import re

import pytest

import chart

# (path to the value, the value, what the refusal must name)
REFUSED = [
    ("replicass", 3, "replicass"),
    ("node.replicas", 0, "replicas"),
    ("node.replicas", "3", "replicas"),
    ("node.replicas", 2.5, "replicas"),
    ("node.replicas", 101, "replicas"),
    ("node.replica", 3, "replica"),
    ("coordinator.replicas", -1, "replicas"),
    ("coordinator.service.type", "ExternalName", "type"),
    ("coordinator.service.httpPort", 0, "httpPort"),
    ("coordinator.service.grpcPort", 65536, "grpcPort"),
    ("coordinator.preStopSeconds", 61, "preStopSeconds"),
    ("coordinator.persistence", {"size": "1Gi"}, "persistence"),
    ("node.persistence.size", "20 GB", "size"),
    ("node.persistence.size", "", "size"),
    ("node.persistence.accessModes", ["ReadWriteMany"], "accessModes"),
    ("node.persistence.accessModes", [], "accessModes"),
    ("node.persistence.whenDeleted", "Keep", "whenDeleted"),
    ("node.persistence.enabled", False, "enabled"),
    ("node.startupProbe.failureThreshold", 0, "failureThreshold"),
    ("node.livenessProbe.path", "/", "path"),
    ("node.terminationGracePeriodSeconds", 1, "terminationGracePeriodSeconds"),
    ("node.podDisruptionBudget.maxUnavailable", "some", "maxUnavailable"),
    ("node.spread.zone", "Maybe", "zone"),
    ("node.resources.limits.memory", "2GB", "memory"),
    ("node.extraArgs", "--one", "extraArgs"),
    ("node.extraArgs", ["one"], "extraArgs"),
    ("node.extraEnv", [{"value": "1"}], "extraEnv"),
    ("node.podLabels", {"app.kubernetes.io/name": "other"}, "app.kubernetes.io"),
    ("node.podAnnotations", {"a": 1}, "podAnnotations"),
    ("node.config", {"heartbeat": 250}, "heartbeat"),
    ("node.config", {"heartbeat_ms": "250"}, "heartbeat_ms"),
    ("node.config", {"heartbeat_ms": -1}, "heartbeat_ms"),
    ("node.config", {"data_dir": "/tmp"}, "data_dir"),
    ("coordinator.config", {"heartbeat_ms": 250}, "heartbeat_ms"),
    ("coordinator.config", {"listen_http": "0.0.0.0:80"}, "listen_http"),
    ("image.tag", "a b", "tag"),
    ("image.digest", "sha256:12", "digest"),
    ("image.pullPolicy", "Sometimes", "pullPolicy"),
    ("logFormat", "xml", "logFormat"),
    ("clusterDomain", "cluster.local.", "clusterDomain"),
    ("fullnameOverride", "Upper", "fullnameOverride"),
    ("fullnameOverride", "a" * 41, "fullnameOverride"),
    ("podSecurityContext.runAsNonRoot", False, "runAsNonRoot"),
    ("podSecurityContext.runAsUser", 0, "runAsUser"),
    ("securityContext.readOnlyRootFilesystem", False, "readOnlyRootFilesystem"),
    ("securityContext.privileged", True, "privileged"),
]


def at(path, value):
    """Values with `value` at the dotted `path`."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


@pytest.mark.parametrize("path, value, named", REFUSED, ids=lambda part: str(part)[:40])
def test_a_wrong_value_is_refused_by_its_name(path, value, named):
    with pytest.raises(chart.Refused, match=named):
        chart.render_4(at(path, value))
    if "HELM_BIN" in os.environ:
        with pytest.raises(chart.Refused, match=named):
            chart.render_3(at(path, value))


def test_every_default_is_described_by_the_schema():
    """No key of values.yaml rests on a schema that takes anything."""
    schema = json.loads((chart.CHART / "values.schema.json").read_text())

    def resolve(part):
        return schema["definitions"][part["$ref"].split("/")[-1]] if "$ref" in part else part

    def walk(part, value, path):
        part = resolve(part)
        if isinstance(value, dict) and "properties" in part:
            for key, inner in value.items():
                free = "additionalProperties" not in part and path in ("podSecurityContext", "securityContext")
                assert free or key in part["properties"], f"{path}.{key} is not in values.schema.json"
                if key in part["properties"]:
                    walk(part["properties"][key], inner, f"{path}.{key}".lstrip("."))

    walk(schema, chart.defaults(), "")


def test_every_described_key_has_a_default():
    """A key that values.yaml does not show is a key that nobody finds."""
    schema = json.loads((chart.CHART / "values.schema.json").read_text())
    values = chart.defaults()
    assert set(schema["properties"]) - {"global"} == set(values)
    for role in chart.ROLES:
        assert set(schema["properties"][role]["properties"]) == set(values[role])


@pytest.mark.parametrize("role", chart.ROLES)
def test_the_settings_of_a_role_are_the_binarys_own(role):
    """Each is passed as a flag by the chart or taken from the values; none is missing, none is made up."""
    source = (chart.HERE.parent.parent / role / "src" / "config.rs").read_text()
    binarys = set(re.findall(r'setting\(\s*"([a-z0-9_]+)"', source)) | {"log_format", "log_level"}
    arguments = chart.container(chart.matrix("defaults"), role)["args"]
    flags = {argument[2:].split("=")[0].replace("-", "_") for argument in arguments[1:]} - {"config"}
    schema = json.loads((chart.CHART / "values.schema.json").read_text())
    values = set(schema["definitions"][f"{role}Config"]["properties"])
    assert not flags & values
    assert flags | values == binarys


def test_the_defaults_said_aloud_change_nothing():
    assert chart.objects(copy.deepcopy(chart.defaults())) == chart.matrix("defaults")
