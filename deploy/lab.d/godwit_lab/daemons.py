"""The daemons of a lab: certificates, command lines, start and stop."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

from . import cgroups, hosts
from .hosts import CLIENT, COORDINATOR, REPOSITORY, Host, Lab

AGENT = "godwit-agent"
COORDINATOR_DAEMON = "godwit-coordinator"
OPERATOR_CERTS = "/etc/godwit/operator"


def issue_certificates(lab: Lab) -> None:
    """Into /etc/godwit of each host; the operator's live on the coordinator's host, and on the client."""
    tools = REPOSITORY / "deploy" / "certs"
    authority = lab.state / "ca"

    def run(*command: object) -> None:
        subprocess.run([str(part) for part in command], check=True)

    run(tools / "make-ca", authority)
    for host in lab.with_daemon:
        role = "coordinator" if host.name == COORDINATOR else "agent"
        run(tools / "issue", authority, lab.state / host.name / "upper/etc/godwit/certs", role, host.name, host.address)
    for name in lab.hosts.keys() & {COORDINATOR, CLIENT}:
        run(tools / "issue", authority, lab.state / name / ("upper" + OPERATOR_CERTS), "operator", "lab")


def name_of(host: Host) -> str:
    return COORDINATOR_DAEMON if host.name == COORDINATOR else AGENT


def command_of(lab: Lab, host: Host, coordinator: str = "") -> list[str]:
    at = host.address
    if host.name == COORDINATOR:
        return [COORDINATOR_DAEMON, "--listen", f"{at}:7440", "--api", f"{at}:7441", "--certs", "/etc/godwit/certs",
                "--state", "/var/lib/godwit"]
    return [AGENT, "--node", host.name, "--coordinator", coordinator or f"{lab.coordinator.address}:7440", "--listen",
            f"{at}:7442", "--pages", f"{at}:7443", "--certs", "/etc/godwit/certs", "--state", "/var/lib/godwit",
            "--cgroup", str(lab.cgroup(host.name)), "--shared", "/srv/shared"]


def log_of(lab: Lab, host: Host) -> Path:
    return lab.state / host.name / f"{name_of(host)}.log"


def start(lab: Lab, host: Host, env: dict[str, str] | None = None, coordinator: str = "", more: tuple[str, ...] = ()) -> None:
    """`coordinator`: where an agent finds it, if not where it is; `more`: options beside the usual ones."""
    if pids(lab, host):
        raise RuntimeError(f"{name_of(host)} runs on {host.name} already")
    # Leaks are no finding in a program that forks, traces and is killed; everything else stops it.
    settings = {"ASAN_OPTIONS": "detect_leaks=0", **(env or {})}
    with open(log_of(lab, host), "ab") as log:
        # setsid -f leaves it an orphan, so that the host's init becomes its parent.
        command = ["setsid", "-f", "sh", "-c", 'mkdir -p /var/lib/godwit && exec "$@"', "sh", *command_of(lab, host, coordinator), *more]
        done = hosts.run(lab, host.name, command, settings, timeout=30, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    # setsid is back before what it has forked runs the daemon.
    deadline = time.monotonic() + 10
    while not done.returncode and not pids(lab, host) and time.monotonic() < deadline:
        time.sleep(0.01)
    if not pids(lab, host):
        raise RuntimeError(f"{name_of(host)} on {host.name} did not start: {tail(lab, host)}")


def pids(lab: Lab, host: Host) -> list[int]:
    wanted = lab.bin / name_of(host)
    found = []
    for pid in cgroups.processes(lab.name, f"{host.name}/system"):
        try:
            # The same file under the host's own path for it: compare what it is, not what it is called.
            if os.path.samestat(os.stat(f"/proc/{pid}/exe"), os.stat(wanted)):
                found.append(pid)
        except OSError:
            pass  # ended meanwhile, or not built
    return found


def stop(lab: Lab, host: Host, sig: signal.Signals, patience_s: float = 10) -> None:
    for pid in pids(lab, host):
        os.kill(pid, sig)
    deadline = time.monotonic() + patience_s
    while pids(lab, host):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{name_of(host)} on {host.name} does not end")
        time.sleep(0.02)


def tail(lab: Lab, host: Host, lines: int = 15) -> str:
    try:
        return "\n".join(log_of(lab, host).read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def cli(lab: Lab, arguments: list[str]) -> list[str]:
    return ["godwit", *arguments]


def cli_environment(lab: Lab) -> dict[str, str]:
    return {"GODWIT_COORDINATOR": f"{lab.coordinator.address}:7441", "GODWIT_CERTS": OPERATOR_CERTS,
            "ASAN_OPTIONS": "detect_leaks=0"}


def godwit(lab: Lab, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess:
    """Runs the command line as the lab's operator; output is captured."""
    return hosts.run(lab, COORDINATOR, cli(lab, list(arguments)), cli_environment(lab), timeout=timeout,
                     stdin=subprocess.DEVNULL, capture_output=True, text=True)


def wait_until_registered(lab: Lab, patience_s: float = 30) -> None:
    """Of all nodes that are on."""
    wanted = {host.name for host in lab.nodes if host.pid}
    deadline = time.monotonic() + patience_s
    while True:
        answer = godwit(lab, "nodes", "--json")
        if answer.returncode == 0:
            listed = json.loads(answer.stdout)
            listed = listed["nodes"] if isinstance(listed, dict) else listed
            if wanted <= {node["name"] for node in listed if node.get("state", "up") in ("up", "ready", "connected")}:
                return
        for host in lab.with_daemon:
            if host.pid and not pids(lab, host):
                raise RuntimeError(f"{name_of(host)} on {host.name} ended:\n{tail(lab, host)}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"the nodes did not register: {answer.stdout}{answer.stderr}")
        time.sleep(0.1)
