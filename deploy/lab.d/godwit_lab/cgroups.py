"""The lab's control groups: one v2 subtree per lab and host, and the memory controller wherever the machine has it.

    <v2>/<lab>/<host>/system    the host's init, daemons and commands
    <v2>/<lab>/<host>/godwit    what the agent is given as --cgroup
    <v2>/<lab>/switch/system    keeps the network while hosts come and go
    <v1 memory>/<lab>/<host>    only where memory is a v1 controller
"""

import os
import time
from pathlib import Path


def _mounts():
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ", 1)
        kind, _, options = right.split(" ", 2)
        yield left.split()[4], kind, options.split(",")


def unified() -> Path:
    for point, kind, _ in _mounts():
        if kind == "cgroup2":
            return Path(point)
    raise RuntimeError("no cgroup v2 hierarchy is mounted")


def memory_v1() -> Path | None:
    for point, kind, options in _mounts():
        if kind == "cgroup" and "memory" in options:
            return Path(point)
    return None


def create(lab: str, hosts: list[str]) -> None:
    root = unified()
    if "memory" in (root / "cgroup.controllers").read_text().split():
        (root / lab).mkdir()
        for level in (root, root / lab):
            (level / "cgroup.subtree_control").write_text("+memory")
    else:
        (root / lab).mkdir()
    for host in hosts:
        create_host(lab, host)


def create_host(lab: str, host: str) -> None:
    root = unified()
    (root / lab / host / "system").mkdir(parents=True)
    (root / lab / host / "godwit").mkdir()
    if v1 := memory_v1():
        (v1 / lab / host).mkdir(parents=True)


def join(lab: str, host: str) -> None:
    """Moves the calling process."""
    (unified() / lab / host / "system" / "cgroup.procs").write_text("0")
    if v1 := memory_v1():
        (v1 / lab / host / "cgroup.procs").write_text("0")


def processes(lab: str, host: str = "") -> list[int]:
    """PIDs, as the machine sees them, of everything that belongs to the lab or to one of its hosts."""
    top = unified() / lab / host
    found = []
    for folder, _, _ in os.walk(top):
        try:
            found += [int(pid) for pid in (Path(folder) / "cgroup.procs").read_text().split()]
        except OSError:
            pass  # removed since
    return found


def exists(lab: str) -> bool:
    return (unified() / lab).exists()


def remove(lab: str, host: str = "", patience_s: float = 20) -> None:
    """Kills everything in the lab or on one of its hosts, frozen or not, and removes the groups."""
    top = unified() / lab / host
    if top.exists():
        (top / "cgroup.kill").write_text("1")
        deadline = time.monotonic() + patience_s
        while processes(lab, host):
            if time.monotonic() > deadline:
                raise RuntimeError(f"these processes do not die: {processes(lab, host)}")
            time.sleep(0.02)
    for hierarchy in (unified(), memory_v1()):
        if hierarchy and (hierarchy / lab / host).exists():
            _remove_tree(hierarchy / lab / host)


def _remove_tree(top: Path, patience_s: float = 5) -> None:
    deadline = time.monotonic() + patience_s
    for folder, _, _ in os.walk(top, topdown=False):
        while True:
            try:
                os.rmdir(folder)
                break
            except FileNotFoundError:
                break
            except OSError:  # a process that has just died leaves its group a moment later
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)


def shmem(lab: str, host: str) -> int:
    """Bytes of tmpfs and shared memory that are charged to a host."""
    v1 = memory_v1()
    stat = (v1 or unified()) / lab / host / "memory.stat"
    wanted = "total_shmem" if v1 else "shmem"
    for line in stat.read_text().splitlines():
        name, value = line.split()
        if name == wanted:
            return int(value)
    return 0


class PeakMeter:
    """The most memory that a host had in use since the meter was made (page cache and tmpfs included)."""

    def __init__(self, lab: str, host: str):
        if v1 := memory_v1():
            self._file = open(v1 / lab / host / "memory.max_usage_in_bytes", "r+")
            self._file.write("0")
        else:
            self._file = open(unified() / lab / host / "memory.peak", "r+")
            self._file.write("reset")  # 6.12+: holds for this descriptor
        self._file.flush()

    def bytes(self) -> int:
        self._file.seek(0)
        return int(self._file.read())
