"""The table of the fault matrix: the phases of a migration, and what can happen in each. A cell is a phase and a fault.

The coordinator is stopped as it enters the phase; the fault strikes; the coordinator goes on (unless it was struck). After
`lasts` seconds everything is mended and every daemon that has died is started again."""

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bed import COORDINATOR, Bed, outside
from godwit_lab import cgroups, wire

PHASES = ("surveying", "preparing", "connecting", "precopy", "freezing", "finishing", "arming", "committing", "killing")
# Where there are engine jobs at all.
SOURCE_HAS_ENGINE = PHASES[3:]
DESTINATION_HAS_ENGINE = PHASES[2:6]
ARRIVING = PHASES[2:6]  # the destination has a spool and a page server that fills it
WITH_A_PAUSE = PHASES[4:]

SLOW_MBIT = 20
HOUR_S = 3600


@dataclass
class Scene:
    """Of one migration."""
    bed: Bed
    source: str
    destination: str

    def pid(self, host: str) -> int:
        return self.bed.lab.hosts[host].pid


@dataclass(frozen=True)
class Fault:
    name: str
    strike: Callable[[Scene], None]
    lasts: float = 0.5
    phases: tuple[str, ...] = PHASES
    holds_coordinator: bool = False  # it stays stopped until that is over
    reboots: tuple[str, ...] = ()  # "source", "destination": a copy there is gone


def of(scene: Scene, who: str) -> str:
    return COORDINATOR if who == "coordinator" else getattr(scene, who)


def kill_daemon(who: str) -> Fault:
    return Fault(f"{who} is killed", lambda scene: scene.bed.kill_daemon(of(scene, who)))


def freeze_daemon(who: str, seconds: float) -> Fault:
    return Fault(f"{who} stands still for {seconds:g} s",
                 lambda scene: scene.bed.signal_daemon(of(scene, who), signal.SIGSTOP), seconds,
                 holds_coordinator=who == "coordinator")


def kill(pids: list[int]) -> None:
    """A fault that strikes nothing tests nothing."""
    if outside.kill(pids) == 0:
        raise RuntimeError("there was nothing to kill")


def kill_engine(who: str, phases: tuple[str, ...]) -> Fault:
    return Fault(f"engine of the {who} is killed",
                 lambda scene: kill(outside.copies(scene.bed.lab, of(scene, who), "godwit-engine")), phases=phases)


def kill_page_server(scene: Scene) -> None:
    kill(cgroups.processes(scene.bed.name, f"{scene.destination}/godwit/jobs/pageserver"))


def lose(sender: str, receiver: str, seconds: float) -> Fault:
    def strike(scene: Scene) -> None:
        wire.lose(scene.pid(of(scene, sender)), scene.bed.lab.hosts[of(scene, receiver)].address)
    return Fault(f"{sender} to {receiver} is cut for {seconds:g} s", strike, seconds)


def unplug(who: str, seconds: float) -> Fault:
    return Fault(f"{who} is unplugged for {seconds:g} s",
                 lambda scene: wire.connect(scene.bed.lab.switch, of(scene, who), False), seconds)


def slow(scene: Scene) -> None:
    wire.limit(scene.bed.lab.switch, scene.pid(scene.destination), scene.destination, SLOW_MBIT)


def fill(path: Path) -> None:
    """A file as large as there is room for."""
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 20, 4096, 512):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                pass


def fill_disk(who: str) -> Fault:
    return Fault(f"disk of the {who} is full", lambda scene: fill(scene.bed.filler(of(scene, who))), 6)


def spools(scene: Scene) -> list[Path]:
    """Of the destination: file systems that no path leads to, but whoever writes into them has them open."""
    found = []
    for pid in cgroups.processes(scene.bed.name, scene.destination):
        if not outside.comm_of(pid).startswith("godwit-"):
            continue
        reachable = {line.split()[2] for line in outside.read(f"/proc/{pid}/mountinfo").splitlines()}
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if os.readlink(entry) != "/":
                    continue
                device = os.stat(entry).st_dev
            except OSError:
                continue
            if f"{os.major(device)}:{os.minor(device)}" not in reachable:
                found.append(entry)
    return found


def fill_spool(scene: Scene) -> None:
    found = spools(scene)
    if not found:
        raise RuntimeError("there was no spool to fill")
    fill(found[0] / "filler")


def jump(who: str, seconds: int) -> Fault:
    """Its time of day; mended, it jumps back."""
    return Fault(f"clock of the {who} jumps by {seconds // HOUR_S:+} h",
                 lambda scene: scene.bed.set_clock(of(scene, who), seconds), 1)


def stray_continues(scene: Scene) -> None:
    """SIGCONT to every task of the workload, on both hosts, from everybody who should not."""
    def send() -> None:
        until = time.monotonic() + STRAY_S
        while time.monotonic() < until:
            for host in (scene.source, scene.destination):
                for pid in outside.copies(scene.bed.lab, host, "redis-server"):
                    try:
                        os.kill(pid, signal.SIGCONT)
                    except ProcessLookupError:
                        pass
            time.sleep(0.002)
    threading.Thread(target=send, daemon=True).start()


STRAY_S = 1.5


def reboot(*who: str) -> Fault:
    def strike(scene: Scene) -> None:
        for one in who:
            scene.bed.reboot(of(scene, one))
    return Fault(f"{' and '.join(who)} {'is' if len(who) == 1 else 'are'} rebooted", strike, reboots=who)


WAYS = (("source", "destination"), ("destination", "source"), ("coordinator", "source"), ("source", "coordinator"),
        ("coordinator", "destination"), ("destination", "coordinator"))

FAULTS = (
    *(kill_daemon(who) for who in ("coordinator", "source", "destination")),
    kill_engine("source", SOURCE_HAS_ENGINE),
    kill_engine("destination", DESTINATION_HAS_ENGINE),
    Fault("page server is killed", kill_page_server),
    *(freeze_daemon(who, 5) for who in ("source", "destination")),
    freeze_daemon("coordinator", 15),
    *(lose(*way, seconds) for way in WAYS for seconds in (1, 10)),
    *(unplug(who, 10) for who in ("source", "destination")),
    Fault("link is slow", slow, 4),
    *(fill_disk(who) for who in ("coordinator", "source", "destination")),
    Fault("spool is full", fill_spool, 1, ARRIVING),
    *(jump(who, seconds) for who in ("coordinator", "source", "destination") for seconds in (HOUR_S, -HOUR_S)),
    Fault("stray SIGCONTs", stray_continues, STRAY_S, WITH_A_PAUSE),
    reboot("coordinator"),
    reboot("source"),
    reboot("destination"),
    reboot("source", "destination"),
    reboot("coordinator", "source", "destination"),
)

# What CI runs: each fault once or twice, each phase more than once, what matters most where it matters most.
QUICK = (
    ("precopy", "page server is killed"),
    ("precopy", "spool is full"),
    ("precopy", "source to destination is cut for 1 s"),
    ("precopy", "clock of the coordinator jumps by +1 h"),
    ("freezing", "disk of the source is full"),
    ("finishing", "stray SIGCONTs"),
    ("finishing", "destination is rebooted"),
    ("arming", "coordinator is rebooted"),
    ("arming", "source is rebooted"),
    ("arming", "clock of the source jumps by -1 h"),
    ("arming", "destination to source is cut for 1 s"),
    ("committing", "source is rebooted"),
    ("committing", "disk of the destination is full"),
    ("committing", "coordinator to destination is cut for 1 s"),
    ("killing", "source is rebooted"),
    ("killing", "destination is rebooted"),
)


def cells() -> list[tuple[str, Fault]]:
    return [(phase, fault) for phase in PHASES for fault in FAULTS if phase in fault.phases]


def quick_cells() -> list[tuple[str, Fault]]:
    named = {fault.name: fault for fault in FAULTS}
    return [(phase, named[name]) for phase, name in QUICK]
