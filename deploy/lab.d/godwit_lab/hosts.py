"""The hosts of a lab: what is known of them, how they are started, how a command gets into one."""

import json
import os
import subprocess
import time
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

from . import cgroups, wire

REPOSITORY = Path(__file__).resolve().parents[3]
HOST_ROOT = REPOSITORY / "deploy" / "lab.d" / "host-root"
COORDINATOR = "coordinator"
CLIENT = "client"  # of the workloads: a host without a daemon
SWITCH = "switch"  # not a host, but it has processes
PATH = "/opt/godwit/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DAY = 24 * 3600


@dataclass
class Host:
    name: str
    number: int  # 1..N; the client is 253, the coordinator is 254
    address: str
    first_pid: int
    clock_offset_s: int
    pid: int = 0  # of its PID 1, as the machine sees it; 0 while it is off
    mbit: int = 0


@dataclass
class Lab:
    name: str
    programs: str  # the directory of the build's programs
    switch: int = 0
    hosts: dict[str, Host] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        return Path("/run") / self.name

    @property
    def bin(self) -> Path:
        return Path(self.programs)

    @property
    def coordinator(self) -> Host:
        return self.hosts[COORDINATOR]

    @property
    def nodes(self) -> list[Host]:
        return [host for host in self.hosts.values() if host.name not in (COORDINATOR, CLIENT)]

    @property
    def with_daemon(self) -> list[Host]:
        """In the order in which they are started."""
        return [self.coordinator, *self.nodes]

    def cgroup(self, host: str) -> Path:
        return cgroups.unified() / self.name / host / "godwit"

    def save(self) -> None:
        (self.state / "lab.json").write_text(json.dumps(asdict(self), indent=2))

    @staticmethod
    def load(name: str) -> "Lab":
        try:
            text = (Path("/run") / name / "lab.json").read_text()
        except FileNotFoundError:
            raise RuntimeError("the lab is not up: deploy/lab up") from None
        data = json.loads(text)
        data["hosts"] = {key: Host(**host) for key, host in data["hosts"].items()}
        return Lab(**data)


def plan(name: str, programs: Path, count: int, same_pids: bool, client: bool = False) -> Lab:
    lab = Lab(name, str(programs))
    # Labs of other names get a network of their own, which only matters to people reading addresses.
    net = 0 if name == "godwit-lab" else 1 + zlib.crc32(name.encode()) % 250
    for number in range(1, count + 1):
        # Hosts that have been up for different times: what carries a clock across must not trust the number.
        offset = DAY if number == 2 else 0
        first_pid = 1000 if same_pids else number * 1000
        lab.hosts[f"h{number}"] = Host(f"h{number}", number, f"10.77.{net}.{number}", first_pid, offset)
    if client:
        lab.hosts[CLIENT] = Host(CLIENT, 253, f"10.77.{net}.253", 0, 0)
    lab.hosts[COORDINATOR] = Host(COORDINATOR, 254, f"10.77.{net}.254", 0, 0)
    return lab


def _child_of(parent: int, patience_s: float = 10) -> int:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        found = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True).stdout.split()
        if found:
            return int(found[0])
        time.sleep(0.01)
    raise RuntimeError("a namespace was not made in time")


def _start(lab: Lab, host: str, flags: list[str], command: list[str], log: Path) -> int:
    """Runs `command` as PID 1 of fresh namespaces, in the host's groups. Returns its PID as the machine sees it."""
    with open(log, "ab") as out:
        starter = subprocess.Popen(
            ["unshare", "--fork", "--kill-child", "--pid", *flags, *command], stdin=subprocess.DEVNULL, stdout=out,
            stderr=out, start_new_session=True, preexec_fn=lambda: cgroups.join(lab.name, host))
    pid = _child_of(starter.pid)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}/comm").read_text().strip() != "lab-init":
        if starter.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{host} did not start: {log.read_text().strip()}")
        time.sleep(0.01)
    return pid


def start_switch(lab: Lab) -> None:
    lab.switch = _start(lab, SWITCH, ["--net"], [str(lab.bin / "lab-init")], lab.state / "switch.log")
    wire.make_switch(lab.switch)


def start_host(lab: Lab, host: Host) -> None:
    folder = lab.state / host.name
    for part in ("root", "work"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    etc = folder / "upper" / "etc"
    etc.mkdir(parents=True, exist_ok=True)
    (etc / "hostname").write_text(host.name + "\n")
    names = "".join(f"{other.address} {other.name}\n" for other in lab.hosts.values())
    (etc / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n" + names)

    flags = ["--mount", "--net", "--uts", "--ipc"]
    if host.clock_offset_s:
        flags += ["--time", "--monotonic", str(host.clock_offset_s), "--boottime", str(host.clock_offset_s)]
    command = [str(HOST_ROOT), str(lab.state), host.name, str(host.first_pid), str(lab.bin), str(REPOSITORY)]
    try:
        host.pid = _start(lab, host.name, flags, command, folder / "init.log")
    except (ProcessLookupError, FileNotFoundError):
        raise RuntimeError(f"{host.name} did not start: {(folder / 'init.log').read_text().strip()}") from None
    wire.plug_in(lab.switch, host.pid, host.name, host.address, 24)
    if host.mbit:
        wire.limit(lab.switch, host.pid, host.name, host.mbit)


def power_off(lab: Lab, host: Host) -> None:
    """As when the cord is pulled: nothing on it gets a word, nothing of it says goodbye. What is on its disk stays."""
    wire.unplug(lab.switch, host.name)
    cgroups.remove(lab.name, host.name)
    host.pid = 0


def power_on(lab: Lab, host: Host) -> None:
    """Boots a host that is off: the same disk, name and address; its memory, boot id and clocks begin anew."""
    host.clock_offset_s = -int(time.clock_gettime(time.CLOCK_MONOTONIC))
    cgroups.create_host(lab.name, host.name)
    start_host(lab, host)


def attach_disk(lab: Lab, host: Host, mib: int) -> None:
    """A small disk for what the host keeps in /var/lib/godwit, so that it can be full. At <lab>/<host>/disk from outside."""
    folder = lab.state / host.name
    (folder / "disk").mkdir(parents=True)
    # All of it is taken now: what a host writes to its disk must not look like memory that it uses.
    with open(folder / "disk.img", "wb") as image:
        os.posix_fallocate(image.fileno(), 0, mib << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-E", "nodiscard", folder / "disk.img"], check=True)
    subprocess.run(["mount", "-o", "loop", folder / "disk.img", folder / "disk"], check=True)


def entering(host: Host, command: list[str]) -> list[str]:
    """The command line that runs `command` inside the host's namespaces (the caller joins its groups)."""
    if not host.pid:
        raise RuntimeError(f"{host.name} is off: deploy/lab poweron {host.name}")
    return ["nsenter", "-t", str(host.pid), "-a", "-r", "-w", "--", *command]


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    kept = {key: os.environ[key] for key in ("TERM", "LANG", "CI") if key in os.environ}
    return {"PATH": PATH, "HOME": "/root", **kept, **(extra or {})}


def popen(lab: Lab, name: str, command: list[str], env: dict[str, str] | None = None, **options) -> subprocess.Popen:
    """Starts a command on a host."""
    return subprocess.Popen(entering(lab.hosts[name], command), env=environment(env),
                            preexec_fn=lambda: cgroups.join(lab.name, name), **options)


def run(lab: Lab, name: str, command: list[str], env: dict[str, str] | None = None, timeout: float = 600,
        **options) -> subprocess.CompletedProcess:
    """Runs a command on a host, to its end."""
    return subprocess.run(entering(lab.hosts[name], command), env=environment(env), timeout=timeout,
                          preexec_fn=lambda: cgroups.join(lab.name, name), **options)
