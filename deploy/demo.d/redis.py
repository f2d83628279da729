"""Redis in the demo: the workload, its dataset, the client that writes to it, and the reference it is compared with."""

import json
import signal
import subprocess
import time
from dataclasses import dataclass

from godwit_lab.hosts import COORDINATOR

from machine import DemoLab

PORT = 6379
REFERENCE_PORT = 6380
TOOL = "godwit-demo-client"
LOG = "/var/lib/demo-writes.log"
SERVER = ["redis-server", "--save", "", "--appendonly", "no", "--enable-debug-command", "local", "--bind", "0.0.0.0",
          "--protected-mode", "no", "--port"]


def wait_until_up(lab: DemoLab, on: str, address: str, patience_s: float = 20) -> None:
    host, port = address.split(":")
    deadline = time.monotonic() + patience_s
    while True:
        try:
            if lab.on(on, "redis-cli", "-h", host, "-p", port, "ping", timeout=10).strip() == "PONG":
                return
        except RuntimeError:
            pass
        if time.monotonic() > deadline:
            raise RuntimeError(f"redis does not answer at {address}")
        time.sleep(0.1)


def start_redis(lab: DemoLab, name: str, host: str) -> None:
    lab.on(COORDINATOR, "godwit", "run", "--name", name, "--on", host, "--", *SERVER, str(PORT))
    wait_until_up(lab, COORDINATOR, f"{host}:{PORT}")


class Client:
    """Writes at a rate until it is stopped, wherever the workload is."""

    def __init__(self, lab: DemoLab, workload: str, data: "Dataset", rate: int):
        self.said = ""  # what it has logged, once it is stopped
        self._process = lab.start(lab.client, TOOL, "write", "--workload", workload, "--port", str(PORT), "--rate",
                                  str(rate), "--log", LOG, *data.flags, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE)

    def stop(self) -> dict:
        # The process started here is nsenter, which waits for the client; the signal is for the client.
        children = subprocess.run(["pgrep", "-P", str(self._process.pid)], capture_output=True, text=True).stdout
        for pid in children.split():
            subprocess.run(["kill", f"-{signal.SIGTERM.value}", pid], check=False)
        out, err = self._process.communicate(timeout=90)
        self.said = err
        if self._process.returncode:
            raise RuntimeError(f"the client failed: {err.strip()}")
        return json.loads(out)


@dataclass
class Dataset:
    keys: int
    value_size: int

    @property
    def flags(self) -> list[str]:
        return ["--keys", str(self.keys), "--value-size", str(self.value_size)]

    def load(self, lab: DemoLab, host: str) -> None:
        lab.on(lab.client, TOOL, "load", "--address", f"{host}:{PORT}", *self.flags)

    def verify(self, lab: DemoLab, host: str, client: Client) -> dict:
        return json.loads(lab.on(lab.client, TOOL, "verify", "--address", f"{host}:{PORT}", "--log", LOG, *self.flags))

    def digest(self, lab: DemoLab, host: str, port: int = PORT) -> str:
        # Redis allows DEBUG from its own host only.
        return json.loads(lab.on(host, TOOL, "digest", "--address", f"127.0.0.1:{port}"))["digest"]


class Reference:
    """A second redis, on the coordinator's host, that holds what the log says."""

    def __init__(self, lab: DemoLab):
        self._lab = lab

    def __enter__(self) -> "Reference":
        self._process = self._lab.start(COORDINATOR, *SERVER, str(REFERENCE_PORT), stdout=subprocess.DEVNULL)
        wait_until_up(self._lab, COORDINATOR, f"127.0.0.1:{REFERENCE_PORT}")
        return self

    def __exit__(self, *_) -> None:
        subprocess.run(["pkill", "-KILL", "-P", str(self._process.pid)], check=False)
        self._process.wait(timeout=30)

    def replay(self, data: Dataset, client: Client, verdict: dict) -> None:
        carried_out = [str(version) for version in verdict["carried_out"]]
        self._data = data
        self._lab.on(COORDINATOR, TOOL, "replay", "--address", f"127.0.0.1:{REFERENCE_PORT}", "--log", LOG, *data.flags,
                     *(["--carried-out", *carried_out] if carried_out else []))

    def digest(self) -> str:
        return self._data.digest(self._lab, COORDINATOR, REFERENCE_PORT)
