"""The lab of the demo, and what can be seen of it from outside: from the machine, not from Godwit."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from godwit_lab import cgroups, daemons, hosts
from godwit_lab.hosts import Lab

LAB_TOOL = hosts.REPOSITORY / "deploy" / "lab"
NAME = os.environ.get("GODWIT_LAB", "godwit-demo")
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # ways of being told to end
WORKLOADS = "/var/lib/godwit/workloads"  # of an agent: what its workloads print
EXIT_CODES = {1: "failed and was rolled back", 2: "was asked for wrongly", 3: "was refused by preflight",
              4: "could not be asked for", 5: "has an unknown outcome"}


class DemoLab:
    """Two hosts and a coordinator under a name of their own; gone when the scope ends."""

    client = hosts.COORDINATOR  # the host where the clients of the workload are

    def __init__(self, keep: bool, link: int, needed_bytes: int):
        self._keep, self._link, self._needed = keep, link, needed_bytes

    def __enter__(self) -> "DemoLab":
        available = meminfo("MemAvailable")
        if available < self._needed:
            sys.exit(f"deploy/demo: source, destination and reference need {self._needed >> 20:,} MiB of memory, "
                     f"{available >> 20:,} MiB are available: choose a smaller --size")
        self._tool("down")  # what an earlier run may have left
        try:
            self._tool("up", "2", *(["--rate", str(self._link)] if self._link else []))
            self.lab = Lab.load(NAME)
        except BaseException:
            self._down()
            raise
        self.name = NAME
        return self

    def __exit__(self, *_) -> None:
        if not self._keep:
            self._down()

    @staticmethod
    def _tool(*arguments: str) -> None:
        tool = subprocess.Popen([LAB_TOOL, *arguments], env={**os.environ, "GODWIT_LAB": NAME}, stdin=subprocess.DEVNULL)
        try:
            code = tool.wait()
        except BaseException:
            tool.terminate()  # not killed: what it has started would go on
            tool.wait()
            raise
        if code:
            sys.exit(code)

    def _down(self) -> None:
        # To its end, however often somebody presses Ctrl-C: that is what they want.
        before = {end: signal.signal(end, signal.SIG_IGN) for end in ENDS}
        try:
            self._tool("down")
        finally:
            for end, handler in before.items():
                signal.signal(end, handler)

    def on(self, host: str, *command: str, timeout: float = 600) -> str:
        """Runs a command on a host; its output."""
        env = daemons.cli_environment(self.lab) if host in (hosts.COORDINATOR, hosts.CLIENT) else None
        done = hosts.run(self.lab, host, list(command), env, timeout=timeout, stdin=subprocess.DEVNULL,
                         capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command[:3])} ...: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def start(self, host: str, *command: str, **options) -> subprocess.Popen:
        env = daemons.cli_environment(self.lab) if host in (hosts.COORDINATOR, hosts.CLIENT) else None
        return hosts.popen(self.lab, host, list(command), env, stdin=subprocess.DEVNULL, text=True, **options)

    def migrate(self, workload: str, to: str, streams: int) -> dict:
        command = ["migrate", workload, "--to", to, "--tcp-close", "--json"]
        if streams:
            command += ["--streams", str(streams)]
        done = daemons.godwit(self.lab, *command, timeout=600)
        if done.returncode:
            what = EXIT_CODES.get(done.returncode, f"ended with {done.returncode}")
            raise RuntimeError(f"the migration to {to} {what}: {done.stdout.strip()} {done.stderr.strip()}")
        return json.loads(done.stdout)

    def print_logs(self) -> None:
        for host in self.lab.with_daemon:
            print(f"--- {daemons.name_of(host)} on {host.name}\n{daemons.tail(self.lab, host)}", file=sys.stderr)
        for host in self.lab.nodes:
            for output in Path(f"/proc/{host.pid}/root{WORKLOADS}").glob("*.log"):
                last = "\n".join(output.read_text(errors="replace").splitlines()[-30:])
                print(f"--- {output.stem}'s own output on {host.name}\n{last}", file=sys.stderr)


def meminfo(field: str) -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/meminfo has no {field}")


ALLOWANCE = 8 << 20  # logs and journals of the lab are on a tmpfs too


def released(before: dict, after: dict) -> bool:
    # The machine's count is what an operator sees; others work on it too, so the lab's own decides.
    return after["lab"] <= before["lab"] + ALLOWANCE


class Spool:
    """Shared memory in use: the spool is a tmpfs that no path leads to, so it only shows in the kernel's counts."""

    def __init__(self, lab: DemoLab):
        self.lab = lab
        self._before = self._read()

    def _read(self) -> dict:
        return {"machine": meminfo("Shmem"), "lab": sum(cgroups.shmem(self.lab.name, h) for h in self.lab.lab.hosts)}

    def after(self, patience_s: float = 5) -> dict:
        deadline = time.monotonic() + patience_s
        while True:
            now = self._read()
            if released(self._before, now) or time.monotonic() > deadline:
                return {"before": self._before, "after": now, "released": released(self._before, now)}
            time.sleep(0.1)


def _comms(pids: Iterable[int]) -> dict[int, str]:
    found = {}
    for pid in pids:
        try:
            found[pid] = Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            pass  # ended meanwhile
    return found


def redis_on(lab: DemoLab, host: str) -> list[int]:
    return [pid for pid, comm in _comms(cgroups.processes(lab.name, host)).items() if comm == "redis-server"]


def threads_of(lab: DemoLab, host: str) -> list[int]:
    """The PID of redis and its TIDs, as it sees them itself."""
    found = redis_on(lab, host)
    if len(found) != 1:
        raise RuntimeError(f"{host} runs {len(found)} redis, not one")
    tids = []
    for task in Path(f"/proc/{found[0]}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("NSpid:"):
                tids.append(int(line.split()[-1]))
    return sorted(tids)


PAGE_SERVER = "godwit-pageserver"[:15]  # as the kernel keeps it


def left_over(comms: dict[int, str]) -> list[str]:
    """Of these processes, by PID, whatever should have gone. The page server is the agent's, and stays."""
    return sorted(f"{comm} ({pid})" for pid, comm in comms.items() if comm != PAGE_SERVER)


def remains(lab: DemoLab, host: str, patience_s: float = 3) -> list[str]:
    """What is left of workloads and engine jobs on a host: command names. Empty is good."""
    deadline = time.monotonic() + patience_s
    while True:
        left = left_over(_comms({*redis_on(lab, host), *cgroups.processes(lab.name, f"{host}/godwit")}))
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)
