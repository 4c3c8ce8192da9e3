"""Do image, chart and workspace say the same? No engine builds images here, so the Dockerfile is read."""

import tomllib

import yaml

import chart

ROOT = chart.HERE.parent.parent
INSTRUCTIONS = [
    line.split(maxsplit=1)
    for line in (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    if line.strip() and not line.startswith("#")
]
PACKAGE = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]


def last(instruction):
    """The argument of the last such instruction: what the final stage has."""
    return [rest for name, rest in INSTRUCTIONS if name == instruction][-1]


def test_the_image_is_built_by_the_workspaces_own_toolchain():
    assert INSTRUCTIONS[0] == ["FROM", f"rust:{PACKAGE['rust-version']}-slim-bookworm AS build"]
    assert last("FROM") == "debian:bookworm-slim", "both stages of one Debian, for the C library"


def test_image_and_chart_mean_the_same_user():
    security = chart.defaults()["podSecurityContext"]
    assert last("USER") == f"{security['runAsUser']}:{security['runAsGroup']}"
    assert security["fsGroup"] == security["runAsGroup"]


def test_image_and_chart_mean_the_same_ports_and_directory():
    ports = {
        str(port["containerPort"])
        for role in chart.ROLES
        for port in chart.container(chart.matrix("defaults"), role)["ports"]
    }
    assert set(last("EXPOSE").split()) == ports
    mounts = [mount["mountPath"] for mount in chart.container(chart.matrix("defaults"), "node")["volumeMounts"]]
    assert last("VOLUME") in mounts


def test_the_chart_is_of_the_workspaces_version():
    assert yaml.safe_load((chart.CHART / "Chart.yaml").read_text())["appVersion"] == PACKAGE["version"]


def test_arguments_go_to_the_one_binary():
    assert last("ENTRYPOINT") == '["granum"]'
    for role in chart.ROLES:
        assert chart.container(chart.matrix("defaults"), role)["args"][0] == role
