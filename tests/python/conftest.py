"""A real cluster for the tests of published clients: `granum dev` on free ports, in a directory of its own."""

import os
import pathlib
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 60
# Below the ports that the system hands out by itself, so that nobody is given one between here and the start.
PORTS = range(15_000, 32_000)


def binary():
    """The `granum` to test: GRANUM_BIN, or the one that `cargo build` made."""
    path = pathlib.Path(os.environ.get("GRANUM_BIN", ROOT / "target/debug/granum"))
    assert path.exists(), f"{path} is missing: cargo build -p granum"
    return str(path)


def free_ports(count):
    """A first port such that `count` in a row are free now."""
    for _ in range(100):
        first = random.randrange(PORTS.start, PORTS.stop - count)
        sockets = []
        try:
            for port in range(first, first + count):
                sockets.append(socket.socket())
                sockets[-1].bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
        finally:
            for taken in sockets:
                taken.close()
    raise AssertionError("no free ports")


def wait_until(condition, what, timeout_s):
    """Polls `condition` until it is true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
        time.sleep(0.1)


def answers(url):
    """Whether a GET of `url` succeeds."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """URL of the HTTP gateway of three nodes and a coordinator; stopped by SIGTERM, which must end in exit code 0."""
    directory = tmp_path_factory.mktemp("granum")
    port = free_ports(4)
    command = [binary(), "dev", "--port", str(port), "--data-dir", str(directory / "data")]
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        ready = f"http://127.0.0.1:{port + 3}/readyz"
        wait_until(lambda: process.poll() is not None or answers(ready), "ready", START_TIMEOUT_S)
        assert process.poll() is None, (directory / "log").read_text()
        yield f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_TIMEOUT_S) == 0, (directory / "log").read_text()
    finally:
        process.kill()
