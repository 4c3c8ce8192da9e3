"""The rendered pods as processes of this machine: same arguments, files, variables and probes, without a kubelet.

Each pod has a loopback address of its own (127.77.0.N), so that ports stay as rendered; its volume and its files lie
in a folder. What a kubelet would do is done here: $(NAME) in arguments, probes by named port, SIGTERM and the grace.
"""

import contextlib
import os
import pathlib
import signal
import subprocess
import time
import urllib.error
import urllib.request

import chart

ROOT = chart.HERE.parent.parent
BINARY = pathlib.Path(os.environ.get("GRANUM_BIN", ROOT / "target" / "debug" / "granum"))
# A debug build on two busy cores; a cluster of three is ready in a few seconds.
DEADLINE_S = 120


class Pod:
    """One process of a rendered pod."""

    def __init__(self, cluster, role, ordinal):
        work = chart.workload(cluster.documents, role)
        self.name = f"{work['metadata']['name']}-{ordinal}"
        self.spec = work["spec"]["template"]["spec"]
        (self.container,) = self.spec["containers"]
        self.address = cluster.address(self.name)
        self.folder = cluster.folder / self.name
        self.cluster = cluster
        self.process = None

    def start(self):
        """Runs the image's entry point with the rendered arguments."""
        command, variables = self.command()
        self.folder.mkdir(exist_ok=True)
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                command, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )

    def command(self):
        """The command and its environment, paths and hosts of this machine put in."""
        variables = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
        for variable in self.container.get("env", []):
            if variable.get("valueFrom") == {"fieldRef": {"fieldPath": "metadata.name"}}:
                variables[variable["name"]] = self.name
            else:
                variables[variable["name"]] = variable["value"]
        paths = self.mount()
        arguments = []
        for argument in self.container["args"]:
            for name, value in variables.items():
                argument = argument.replace(f"$({name})", value)
            for path, here in paths.items():
                argument = argument.replace(path, str(here))
            argument = argument.replace("0.0.0.0", self.address)
            arguments.append(self.cluster.with_addresses(argument))
        return [str(BINARY), *arguments], variables

    def mount(self):
        """Mount path -> folder here, the ConfigMap's keys written as its items say."""
        maps = {m["metadata"]["name"]: m["data"] for m in chart.of_kind(self.cluster.documents, "ConfigMap")}
        volumes = {volume["name"]: volume for volume in self.spec["volumes"]}
        paths = {}
        for mount in self.container["volumeMounts"]:
            here = self.folder / mount["name"]
            here.mkdir(parents=True, exist_ok=True)
            for item in volumes.get(mount["name"], {}).get("configMap", {}).get("items", []):
                source = maps[volumes[mount["name"]]["configMap"]["name"]]
                (here / item["path"]).write_text(source[item["key"]])
            paths[mount["mountPath"]] = here
        return paths

    def probe(self, kind):
        """The status that a probe gets, or None where nobody answers."""
        asked = self.container[f"{kind}Probe"]["httpGet"]
        return self.get(asked["port"], asked["path"])

    def get(self, port, path):
        """The status of GET path on a named port, or None where nobody answers."""
        ports = {entry["name"]: entry["containerPort"] for entry in self.container["ports"]}
        try:
            with urllib.request.urlopen(f"http://{self.address}:{ports[port]}{path}", timeout=5) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    def wait(self, kind):
        """Until the probe succeeds; fails with the log's end if the process ends or the deadline passes."""
        deadline = time.monotonic() + DEADLINE_S
        while self.probe(kind) != 200:
            ended = self.process.poll()
            late = time.monotonic() > deadline
            assert ended is None and not late, f"{self.name}: {kind} probe, exit code {ended}\n{self.log()}"
            time.sleep(0.1)

    def stop(self):
        """SIGTERM, and the exit code within the rendered grace."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(self.spec["terminationGracePeriodSeconds"])
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end in its grace\n{self.log()}") from None

    def log(self):
        """The last lines that the process wrote."""
        return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-40:])


class Cluster:
    """The pods of one rendering, in a folder of their own."""

    def __init__(self, documents, folder):
        self.documents = documents
        self.folder = folder
        self.addresses = {}
        self.pods = [
            Pod(self, role, ordinal)
            for role in chart.ROLES
            for ordinal in range(chart.workload(documents, role)["spec"]["replicas"])
        ]

    def of(self, role):
        """The pods of a role."""
        name = chart.workload(self.documents, role)["metadata"]["name"]
        return [pod for pod in self.pods if pod.name.startswith(f"{name}-")]

    def address(self, pod):
        """A pod's own loopback address."""
        return self.addresses.setdefault(pod, f"127.77.0.{len(self.addresses) + 1}")

    def with_addresses(self, text):
        """Names of pods and of the coordinators' service, as DNS would resolve them."""
        domain = "{service}.search.svc.cluster.local"
        for role in chart.ROLES:
            service = domain.format(service=chart.workload(self.documents, role)["metadata"]["name"])
            for pod in self.of(role):
                text = text.replace(f"{pod.name}.{service}", pod.address)
            if role == "coordinator":
                text = text.replace(service, self.of(role)[0].address)
        return text

    def start(self):
        """All at once, as Kubernetes does, and until all are ready."""
        for pod in self.pods:
            pod.start()
        for pod in self.pods:
            pod.wait("startup")
            pod.wait("liveness")
            pod.wait("readiness")

    def stop(self):
        """SIGTERM to all, coordinators first; every exit code."""
        pods = self.of("coordinator") + self.of("node")
        return {pod.name: pod.stop() for pod in pods}

    @contextlib.contextmanager
    def owned(self):
        """Leaves no process behind."""
        try:
            yield self
        finally:
            for pod in self.pods:
                if pod.process and pod.process.poll() is None:
                    pod.process.kill()
                    pod.process.wait()
