"""Is what the chart renders safe and whole? Rules that hold for every values file, beyond what a schema can say."""

import tomllib

import pytest

import chart

every_values_file = pytest.mark.parametrize("name", chart.VALUES)


@every_values_file
def test_no_pod_runs_as_root_or_can_become_it(name):
    for pod, _, spec in chart.pods(chart.matrix(name)):
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True and security["runAsUser"] > 0, pod
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, pod
        assert spec["automountServiceAccountToken"] is False, pod
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), pod
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, pod
            assert security["readOnlyRootFilesystem"] is True, pod
            assert security["capabilities"] == {"drop": ["ALL"]}, pod
            assert "privileged" not in security, pod


@every_values_file
def test_service_variables_never_pose_as_settings(name):
    """Kubernetes would set GRANUM_PORT=tcp://... for a service named granum."""
    for pod, _, spec in chart.pods(chart.matrix(name)):
        assert spec["enableServiceLinks"] is False, pod


@every_values_file
def test_every_container_has_a_bound_on_memory(name):
    for pod, _, spec in chart.pods(chart.matrix(name)):
        for container in spec["containers"]:
            assert "memory" in container["resources"]["limits"], pod


def test_by_default_memory_asked_for_is_memory_allowed():
    """Else a pod that uses what it may is the first to be evicted when its host runs short."""
    for pod, _, spec in chart.pods(chart.matrix("defaults")):
        resources = spec["containers"][0]["resources"]
        assert resources["requests"]["memory"] == resources["limits"]["memory"], pod


@every_values_file
def test_every_role_has_its_three_probes_on_the_metrics_port(name):
    for role in chart.ROLES:
        container = chart.container(chart.matrix(name), role)
        asked = {probe: container[f"{probe}Probe"]["httpGet"] for probe in ("startup", "liveness", "readiness")}
        assert asked == {
            "startup": {"path": "/livez", "port": "metrics"},
            "liveness": {"path": "/livez", "port": "metrics"},
            "readiness": {"path": "/readyz", "port": "metrics"},
        }


@every_values_file
def test_a_log_may_be_replayed_for_long_before_a_start_counts_as_failed(name):
    probe = chart.container(chart.matrix(name), "node")["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 1800


@every_values_file
def test_selectors_match_pods_of_their_role_and_no_others(name):
    documents = chart.matrix(name)
    labels = {pod: metadata["labels"] for pod, metadata, _ in chart.pods(documents)}

    def matched(selector):
        return {pod for pod, have in labels.items() if selector.items() <= have.items()}

    for role in chart.ROLES:
        work = chart.workload(documents, role)
        own = {work["metadata"]["name"]}
        assert matched(work["spec"]["selector"]["matchLabels"]) == own
        for constraint in work["spec"]["template"]["spec"].get("topologySpreadConstraints", []):
            assert matched(constraint["labelSelector"]["matchLabels"]) == own
    for service in chart.of_kind(documents, "Service"):
        assert matched(service["spec"]["selector"]) == {service["metadata"]["name"]}
    for budget in chart.of_kind(documents, "PodDisruptionBudget"):
        assert matched(budget["spec"]["selector"]["matchLabels"]) == {budget["metadata"]["name"]}
    for policy in chart.of_kind(documents, "NetworkPolicy"):
        assert matched(policy["spec"]["podSelector"]["matchLabels"]) == {policy["metadata"]["name"]}
        for rule in policy["spec"]["ingress"]:
            for peer in rule.get("from", []):
                assert len(matched(peer["podSelector"]["matchLabels"])) == 1


@every_values_file
def test_every_port_that_is_named_exists_and_is_listened_on(name):
    documents = chart.matrix(name)
    ports = {
        role: {port["name"]: port["containerPort"] for port in chart.container(documents, role)["ports"]}
        for role in chart.ROLES
    }
    assert ports == {
        "node": {"data": 6335, "raft": 6337, "metrics": 6336},
        "coordinator": {"http": 6333, "grpc": 6334, "metrics": 6336},
    }
    for role in chart.ROLES:
        container = chart.container(documents, role)
        for listener, port in ports[role].items():
            assert chart.flag(documents, role, f"listen-{listener}") == f"0.0.0.0:{port}"
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["httpGet"]["port"] in ports[role]
    for service in chart.of_kind(documents, "Service"):
        role = service["spec"]["selector"]["app.kubernetes.io/component"]
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in ports[role]
    for policy in chart.of_kind(documents, "NetworkPolicy"):
        allowed = {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
        assert allowed == ports["node"].keys()


@every_values_file
def test_every_mount_has_its_volume_and_every_file_its_key(name):
    documents = chart.matrix(name)
    maps = {document["metadata"]["name"]: document["data"] for document in chart.of_kind(documents, "ConfigMap")}
    for role in chart.ROLES:
        work = chart.workload(documents, role)
        spec = work["spec"]["template"]["spec"]
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        claims = {claim["metadata"]["name"] for claim in work["spec"].get("volumeClaimTemplates", [])}
        mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
        assert mounts.keys() == volumes.keys() | claims
        source = volumes["config"]["configMap"]
        (item,) = source["items"]
        tomllib.loads(maps[source["name"]][item["key"]])
        assert chart.flag(documents, role, "config") == f"{mounts['config']}/{item['path']}"


@every_values_file
def test_a_node_writes_on_its_volume_and_below_its_root(name):
    """A new file system's root is not empty: it has lost+found."""
    documents = chart.matrix(name)
    mounts = {mount["name"]: mount["mountPath"] for mount in chart.container(documents, "node")["volumeMounts"]}
    assert chart.flag(documents, "node", "data-dir").startswith(mounts["data"] + "/")


@every_values_file
def test_names_fit_into_dns_labels(name):
    for document in chart.matrix(name):
        assert len(document["metadata"]["name"]) <= 63
    # Kubernetes adds a revision's hash of 11 to a StatefulSet's name, in a label.
    assert len(chart.workload(chart.matrix(name), "node")["metadata"]["name"]) <= 52


@every_values_file
def test_peers_are_named_as_the_nodes_announce_themselves(name):
    documents = chart.matrix(name)
    work = chart.workload(documents, "node")
    (headless,) = [service for service in chart.of_kind(documents, "Service") if service["spec"].get("clusterIP") == "None"]
    assert work["spec"]["serviceName"] == headless["metadata"]["name"]
    assert headless["spec"]["publishNotReadyAddresses"] is True

    announced = chart.flag(documents, "node", "advertise")
    pods = [f"{work['metadata']['name']}-{ordinal}" for ordinal in range(work["spec"]["replicas"])]
    seeds = ",".join(announced.replace("$(POD_NAME)", pod) + ":6335" for pod in pods[:3])
    assert chart.flag(documents, "node", "bootstrap") == seeds
    assert chart.flag(documents, "node", "join") == seeds
    assert chart.flag(documents, "coordinator", "nodes") == seeds
    (variable,) = [entry for entry in chart.container(documents, "node")["env"] if entry["name"] == "POD_NAME"]
    assert variable["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}


@every_values_file
def test_nodes_start_together_and_are_given_time_to_drain(name):
    spec = chart.workload(chart.matrix(name), "node")["spec"]
    assert spec["podManagementPolicy"] == "Parallel"
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] >= 120
    # A stop is no scale-in: nothing that a stop runs may touch the membership.
    assert "lifecycle" not in spec["template"]["spec"]["containers"][0]


@every_values_file
def test_a_stop_leaves_a_coordinator_time_beyond_its_wait(name):
    spec = chart.workload(chart.matrix(name), "coordinator")["spec"]["template"]["spec"]
    wait = spec["containers"][0].get("lifecycle", {"preStop": {"exec": {"command": ["sleep", "0"]}}})
    command = wait["preStop"]["exec"]["command"]
    assert command[0] == "sleep" and int(command[1]) < spec["terminationGracePeriodSeconds"]


def test_budgets_guard_both_roles_unless_switched_off():
    budgets = {role: 1 for role in ("demo-granum-node", "demo-granum-coordinator")}
    found = chart.of_kind(chart.matrix("defaults"), "PodDisruptionBudget")
    assert {budget["metadata"]["name"]: budget["spec"]["maxUnavailable"] for budget in found} == budgets
    assert {budget["spec"]["unhealthyPodEvictionPolicy"] for budget in found} == {"IfHealthyBudget"}
    assert chart.of_kind(chart.matrix("no-budget"), "PodDisruptionBudget") == []


def test_pods_are_spread_over_zones_and_hosts_as_asked():
    def spread(name, role):
        spec = chart.workload(chart.matrix(name), role)["spec"]["template"]["spec"]
        rules = spec.get("topologySpreadConstraints", [])
        return {rule["topologyKey"].split("/")[1]: rule["whenUnsatisfiable"] for rule in rules}

    assert spread("defaults", "node") == {"zone": "ScheduleAnyway", "hostname": "ScheduleAnyway"}
    assert spread("spread-strict", "node") == {"zone": "DoNotSchedule", "hostname": "DoNotSchedule"}
    assert spread("spread-strict", "coordinator") == {"hostname": "DoNotSchedule"}
    assert spread("spread-none", "node") == {}


def test_documents_outlive_the_release_unless_asked_otherwise():
    def retention(name):
        return chart.workload(chart.matrix(name), "node")["spec"]["persistentVolumeClaimRetentionPolicy"]

    assert retention("defaults") == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert retention("storage") == {"whenDeleted": "Delete", "whenScaled": "Delete"}


def test_an_empty_storage_class_is_not_the_default_one():
    def claim(name):
        (found,) = chart.workload(chart.matrix(name), "node")["spec"]["volumeClaimTemplates"]
        return found["spec"]

    assert "storageClassName" not in claim("defaults")
    assert claim("storage-static")["storageClassName"] == ""
    assert claim("storage")["storageClassName"] == "fast"


def test_settings_arrive_in_the_file_as_they_were_given():
    def config(role):
        (found,) = [
            document
            for document in chart.of_kind(chart.matrix("config"), "ConfigMap")
            if f"{role}.toml" in document["data"]
        ]
        return tomllib.loads(found["data"][f"{role}.toml"])

    given = chart.values("config")
    for role in chart.ROLES:
        assert config(role) == given[role]["config"]
        assert {type(value) for value in config(role).values()} == {int}


def test_another_configuration_makes_other_pods_of_its_role_only():
    def checksum(documents, role):
        return chart.workload(documents, role)["spec"]["template"]["metadata"]["annotations"]["checksum/config"]

    plain, changed = chart.matrix("defaults"), chart.objects({"node": {"config": {"heartbeat_ms": 300}}})
    assert checksum(plain, "node") != checksum(changed, "node")
    assert checksum(plain, "coordinator") == checksum(changed, "coordinator")


def test_a_new_chart_version_restarts_nobody_and_changes_nothing_fixed(tmp_path):
    """Kubernetes refuses a change to a StatefulSet's selector, service and claims."""
    copy = tmp_path / "granum"
    for source in chart.CHART.rglob("*"):
        if source.is_file():
            target = copy / source.relative_to(chart.CHART)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    text = (copy / "Chart.yaml").read_text()
    (copy / "Chart.yaml").write_text(text.replace("\nversion: ", "\nversion: 9"))

    newer = chart.objects({}, chart=copy)
    older = chart.matrix("defaults")
    assert newer != older
    for role in chart.ROLES:
        before, after = chart.workload(older, role)["spec"], chart.workload(newer, role)["spec"]
        assert before == after


def test_growing_the_cluster_restarts_nobody():
    """From three nodes on, the peers that are asked stay the same three."""
    three, five = chart.matrix("defaults"), chart.matrix("five-nodes")
    for role in chart.ROLES:
        before, after = chart.workload(three, role)["spec"], chart.workload(five, role)["spec"]
        assert before["template"] == after["template"]
