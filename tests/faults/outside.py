"""What can be seen of a lab's workloads from the machine, which no fault in Godwit can hide."""

import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import records
from godwit_lab import cgroups
from godwit_lab.hosts import Host, Lab

STOPPED, TRACED, DEAD = "T", "t", "ZX"
PF_EXITING = 4
LISTENING = "0A"  # in /proc/PID/net/tcp
# What an agent has open only as long as something is going on.
BORROWED = ("anon_inode:[pidfd]", "anon_inode:[userfaultfd]", "anon_inode:bpf-prog", "anon_inode:bpf-link")


def read(path: Path | str) -> str:
    try:
        return Path(path).read_text()
    except OSError:  # ended or removed meanwhile
        return ""


def state_of(pid: int) -> str:
    return read(f"/proc/{pid}/stat").rpartition(") ")[2][:1]


def comm_of(pid: int) -> str:
    return read(f"/proc/{pid}/comm").strip()


def kill(pids: list[int]) -> int:
    """How many were there to be killed: some may have ended since they were looked up."""
    killed = 0
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
            killed += 1
        except ProcessLookupError:
            pass
    return killed


def in_proc(address: str) -> str:
    """As /proc/PID/net/tcp has it."""
    return f"{int.from_bytes(socket.inet_aton(address), sys.byteorder):08X}"


def is_frozen(pid: int) -> bool:
    for line in read(f"/proc/{pid}/cgroup").splitlines():
        if line.startswith("0::"):
            return "frozen 1" in read(f"{cgroups.unified()}{line[3:]}/cgroup.events")
    return False


def is_dying(pid: int) -> bool:
    """Killed: it leaves the freezer for that, and frees its memory, but never comes back to its own code."""
    flags = read(f"/proc/{pid}/stat").rpartition(") ")[2].split()[6:7]
    if not flags or int(flags[0]) & PF_EXITING:
        return True
    pending = [int(line.split()[1], 16) for line in read(f"/proc/{pid}/status").splitlines()
               if line.startswith(("SigPnd:", "ShdPnd:"))]
    return any(mask & 1 << (signal.SIGKILL - 1) for mask in pending)


def can_run(pid: int) -> bool:
    if state_of(pid) in f"{STOPPED}{TRACED}{DEAD}" or is_frozen(pid):
        return False
    for _ in range(2):  # between taking the signal and the beginning of the end a process shows neither
        if is_dying(pid):
            return False
        time.sleep(0.0005)
    return True


def copies(lab: Lab, host: str, comm: str) -> list[int]:
    """Processes of a host that are called `comm`, running or not."""
    return [pid for pid in cgroups.processes(lab.name, host) if comm_of(pid) == comm and state_of(pid) not in DEAD]


def find(lab: Lab, host: str, argument: str) -> list[int]:
    """Processes of a host whose command line has this argument."""
    return [pid for pid in cgroups.processes(lab.name, host) if argument in read(f"/proc/{pid}/cmdline").split("\0")]


def running(lab: Lab, host: str, comm: str) -> list[int]:
    return [pid for pid in copies(lab, host, comm) if can_run(pid)]


def spools(lab: Lab, host: str) -> list[Path]:
    """File systems that no path leads to, but whoever writes into them has them open: an entry of his for each."""
    found = []
    for pid in cgroups.processes(lab.name, host):
        if not comm_of(pid).startswith("godwit-"):
            continue
        reachable = {line.split()[2] for line in read(f"/proc/{pid}/mountinfo").splitlines()}
        for entry, target in descriptors(pid):
            try:
                device = os.stat(entry).st_dev if target == "/" else 0
            except OSError:
                continue
            if device and f"{os.major(device)}:{os.minor(device)}" not in reachable:
                found.append(entry)
    return found


def records_of(lab: Lab, host: str) -> Path:
    return lab.state / host / "disk" / "records"


def descriptors(pid: int) -> list[tuple[Path, str]]:
    """What a process has open: the entry, and where it leads."""
    found = []
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            found.append((entry, os.readlink(entry)))
    except OSError:  # ended or closed meanwhile: the others are seen at the next look
        pass
    return found


class Watch:
    """Looks all the time whether a workload runs on two hosts at once. A look takes some milliseconds, and 10 ms lie between
    two of them: what is shorter may go unseen."""

    longest_gap_allowed = 2.0  # seconds, on a busy machine

    def __init__(self, lab: Lab, comm: str):
        self._lab, self._comm = lab, comm
        self._hosts = [host.name for host in lab.nodes]
        self._stop = threading.Event()
        self.doubles: list[str] = []
        self.looks = 0
        self.longest_gap = 0.0
        self._died_early = False

    def __enter__(self) -> "Watch":
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._died_early = not self._thread.is_alive()
        self._stop.set()
        self._thread.join(10)

    def problems(self) -> list[str]:
        """What was seen so far, and whether there was anybody to see it."""
        found = [f"it ran twice: {double}" for double in self.doubles[:3]]
        if not self._stop.is_set():
            self._died_early = not self._thread.is_alive()
        if self._died_early or self.looks == 0:
            found.append("nobody looked whether it ran twice")
        elif self.longest_gap > self.longest_gap_allowed:
            found.append(f"for {self.longest_gap:.1f} s nobody looked whether it ran twice")
        return found

    def _look(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(0.01):
            now = time.monotonic()
            self.longest_gap, last = max(self.longest_gap, now - last), now
            self.looks += 1
            seen: dict[str, list[int]] = {}
            for host in self._hosts:
                is_alone = host == self._hosts[-1] and not seen
                if not is_alone and (pids := running(self._lab, host, self._comm)):
                    seen[host] = pids
            # The hosts are looked at one after the other: only what still runs afterwards ran at the same time.
            if any(can_run(pid) for host in list(seen)[:-1] for pid in seen[host]):
                self.doubles.append(" and ".join(f"{pids} on {host}" for host, pids in seen.items()))


class Remains:
    """What a lab at rest has, to find what a fault leaves behind."""

    # Logs and journals grow on the tmpfs that hosts live on.
    shmem_allowance = 8 << 20

    def __init__(self, lab: Lab, comm: str):
        self._lab, self._comm = lab, comm
        self._rest = self._look()

    def problems(self, is_gone: bool = False) -> list[str]:
        """`is_gone`: so is the workload, rightly."""
        now = self._look()
        found = [f"{what} {thing}" for what in ("mounted", "lost the mount") for thing in self._changed(now, what)]
        found += [f"{count} sockets listen on port {port}" for port, count in (now["listening"] - self._rest["listening"]).items()]
        found += [f"{name} is left in a state directory" for name in now["state"] - self._rest["state"]]
        for kind, count in now["descriptors"].items():
            if count > self._rest["descriptors"][kind]:
                found.append(f"agents hold {count} {kind}, {self._rest['descriptors'][kind]} at rest")
        grown = now["shmem"] - self._rest["shmem"]
        if grown > self.shmem_allowance:
            found.append(f"{grown >> 20} MiB more of tmpfs in use")
        inits = 0 if is_gone else self._rest["inits"]
        if now["inits"] != inits:
            found.append(f"{now['inits']} inits of workloads, not {inits}")
        for host in self._lab.nodes:
            found += self._tasks(host.name) + self._groups(host.name)
            kept = records_of(self._lab, host.name)
            found += [f"not settled on {host.name}: {record}" for record in records.unsettled(kept)]
        return found

    def _changed(self, now: dict, what: str) -> list[str]:
        more, fewer = (now, self._rest) if what == "mounted" else (self._rest, now)
        return [f"{point} on {host}" for host in more["mounts"] for point in (more["mounts"][host] - fewer["mounts"][host])]

    def _look(self) -> dict:
        lab = self._lab
        return {
            "mounts": {h.name: Counter(self._mounts(h.pid)) for h in lab.nodes},
            "descriptors": Counter(kind for h in lab.nodes for kind in self._descriptors(h.name)),
            "listening": Counter(port for h in lab.nodes for port in self._listening(h)),
            "state": Counter(name for h in lab.nodes for name in self._state(h.pid)),
            "shmem": sum(cgroups.shmem(lab.name, h.name) for h in lab.nodes),
            "inits": sum(len(copies(lab, h.name, "godwit-init")) for h in lab.nodes),
        }

    @staticmethod
    def _mounts(pid: int) -> list[str]:
        return [line.split(" - ")[0].split()[4] for line in read(f"/proc/{pid}/mountinfo").splitlines()]

    def _listening(self, host: Host) -> list[int]:
        """Ports. Not of whoever stands between two hosts (wire.divert): he listens where the other one's address leads."""
        sockets = [line.split() for file in ("tcp", "tcp6") for line in read(f"/proc/{host.pid}/net/{file}").splitlines()[1:]]
        others = {in_proc(other.address) for other in self._lab.nodes if other.name != host.name}
        return [int(port, 16) for address, port in (words[1].split(":") for words in sockets if words[3] == LISTENING)
                if address not in others]

    @staticmethod
    def _state(pid: int) -> list[str]:
        """Files that an agent keeps, many of them only as long as something is going on. Not of workloads: what ran on a
        host when that was rebooted is listed as exited until somebody removes it. Nor who has resolved what: that is kept."""
        top = Path(f"/proc/{pid}/root/var/lib/godwit")
        names = [str(path.relative_to(top)) for path in top.rglob("*") if path.is_file()]
        return [name for name in names if not name.startswith("workloads/") and name != "resolutions"]

    def _descriptors(self, host: str):
        for pid in cgroups.processes(self._lab.name, host):
            if comm_of(pid) in ("godwit-agent", "godwit-pageserver"[:15]):
                yield from (target.split()[0] for _, target in descriptors(pid)
                            if target.startswith("/memfd:") or target in BORROWED)
        yield from ("spools" for _ in spools(self._lab, host))

    def _tasks(self, host: str) -> list[str]:
        found = []
        for pid in cgroups.processes(self._lab.name, host):
            for line in read(f"/proc/{pid}/status").splitlines():
                if line.startswith("TracerPid:") and line.split()[1] != "0":
                    found.append(f"{comm_of(pid)} ({pid}) on {host} is traced")
            if state_of(pid) == STOPPED:
                found.append(f"{comm_of(pid)} ({pid}) on {host} is stopped")
            if comm_of(pid) == "godwit-engine":
                found.append(f"an engine ({pid}) is left on {host}")
        return found

    def _groups(self, host: str) -> list[str]:
        found = []
        top = self._lab.cgroup(host)
        for group in top.iterdir() if top.exists() else []:
            events = read(group / "cgroup.events")
            if "frozen 1" in events or read(group / "cgroup.freeze").strip() == "1":
                found.append(f"{group.name} on {host} is frozen")
            if group.suffix in (".run", ".src", ".dst") and "populated 0" in events:
                found.append(f"an empty cgroup {group.name} is left on {host}")
        jobs = top / "jobs"
        found += [f"a job's cgroup {group.name} is left on {host}" for group in (jobs.iterdir() if jobs.exists() else [])
                  if group.is_dir() and group.name != "pageserver"]
        return found


def wait_until(condition, seconds: float, pause: float = 0.05):
    """The first true value of `condition`, or its last one."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > deadline:
            return value
        time.sleep(pause)
