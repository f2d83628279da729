"""The table of the fault matrix: the phases of a migration, and what can happen in each. A cell is a phase and a fault.

The coordinator is stopped as it enters the phase; the fault strikes; the coordinator goes on (unless it was struck). Or
it goes on first, and the fault strikes within the phase; or the agent that is at its step stands still in the middle of
it. After `lasts` seconds everything is mended and every daemon that has died is started again."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bed import CLIENT, COORDINATOR, REDIS, Bed, outside
from godwit_lab import cgroups, wire

PHASES = ("surveying", "preparing", "connecting", "precopy", "freezing", "finishing", "arming", "committing", "killing")
# Where there are engine jobs at all.
SOURCE_HAS_ENGINE = PHASES[3:]
DESTINATION_HAS_ENGINE = PHASES[2:6]
ARRIVING = PHASES[2:6]  # the destination has a spool and a page server that fills it
WITH_A_PAUSE = PHASES[4:]
UNPREPARED = PHASES[:6]  # the source has the only copy
# Where a migration goes when something has failed, and what fails for it at the destination: the restore, or the agent,
# which dies with the commit on its disk.
ROLLING_BACK, ASKING = "rolling_back", "asking"
BROUGHT_ABOUT = {ROLLING_BACK: "engine.restore.filled=fail", ASKING: "agent.destination.committed=kill"}
ALL_PHASES = (*PHASES, *BROUGHT_ABOUT)
DESTINATION_LIVES = (*PHASES, ROLLING_BACK)
ALWAYS = (*PHASES, ASKING)
# How long each takes in the lab, or less: the time within which a fault strikes that is to strike in the middle of it.
LASTS_S = {"surveying": 0.1, "preparing": 0.05, "connecting": 0.1, "precopy": 2.5, "freezing": 0.08, "finishing": 0.15,
           "arming": 0.005, "committing": 0.03, "killing": 0.03, ROLLING_BACK: 0.1, ASKING: 1}

SLOW_MBIT = 20
HOUR_S = 3600
STRAY_S = 1.5
ASKED_S = 0.3  # until a command line waits for its answer


@dataclass
class Scene:
    """Of one migration."""
    bed: Bed
    source: str
    destination: str
    epoch: int = 0  # the last one before it
    cancel: subprocess.Popen | None = None

    def pid(self, host: str) -> int:
        return self.bed.lab.hosts[host].pid


@dataclass(frozen=True)
class Fault:
    name: str
    strike: Callable[[Scene], None]
    lasts: float = 0.5
    phases: tuple[str, ...] = ALL_PHASES
    holds_coordinator: bool = False  # it stays stopped until that is over
    reboots: tuple[str, ...] = ()  # "source", "destination": a copy there is gone
    fatal: tuple[str, ...] = ()  # where it ends every migration that it strikes
    harmless: tuple[str, ...] = ()  # where it keeps none from coming to its end
    options: tuple[str, ...] = ()  # of `godwit migrate`


class Missed(RuntimeError):
    """There was nothing to strike. A fault that strikes nothing tests nothing; within a phase it may come too late."""


def of(scene: Scene, who: str) -> str:
    return COORDINATOR if who == "coordinator" else getattr(scene, who)


def phases_with(*who: str) -> tuple[str, ...]:
    """Where all of these are alive."""
    return DESTINATION_LIVES if "destination" in who else ALL_PHASES


def kill_daemon(who: str, **ends) -> Fault:
    return Fault(f"{who} is killed", lambda scene: scene.bed.kill_daemon(of(scene, who)), phases=phases_with(who), **ends)


def freeze_daemon(who: str, seconds: float, **ends) -> Fault:
    return Fault(f"{who} stands still for {seconds:g} s",
                 lambda scene: scene.bed.signal_daemon(of(scene, who), signal.SIGSTOP), seconds, phases_with(who),
                 holds_coordinator=who == "coordinator", **ends)


def kill(pids: list[int]) -> None:
    if outside.kill(pids) == 0:
        raise Missed("there was nothing to kill")


def kill_engine_of(scene: Scene, who: str) -> None:
    kill(outside.copies(scene.bed.lab, of(scene, who), "godwit-engine"))


def kill_engine(who: str, phases: tuple[str, ...], **ends) -> Fault:
    return Fault(f"engine of the {who} is killed", lambda scene: kill_engine_of(scene, who), phases=phases, **ends)


def kill_page_server(scene: Scene) -> None:
    kill(cgroups.processes(scene.bed.name, f"{scene.destination}/godwit/jobs/pageserver"))


def lose(sender: str, receiver: str, seconds: float) -> Fault:
    def strike(scene: Scene) -> None:
        wire.lose(scene.pid(of(scene, sender)), scene.bed.lab.hosts[of(scene, receiver)].address)
    return Fault(f"{sender} to {receiver} is cut for {seconds:g} s", strike, seconds, phases_with(sender, receiver),
                 harmless=ALWAYS if seconds <= 1 else ())


def unplug(who: str, seconds: float) -> Fault:
    return Fault(f"{who} is unplugged for {seconds:g} s",
                 lambda scene: wire.connect(scene.bed.lab.switch, of(scene, who), False), seconds,
                 phases_with(who))


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


def fill_disk(who: str, **ends) -> Fault:
    return Fault(f"disk of the {who} is full", lambda scene: fill(scene.bed.filler(of(scene, who))), 6,
                 phases_with(who), **ends)


def fill_spool(scene: Scene) -> None:
    """One that is larger than all that comes: what has gone round once needs no more room. While the coordinator stands
    still the load writes more than what is left in pages that are begun. In `finishing` nothing is stored any more."""
    try:
        fill(outside.spools(scene.bed.lab, scene.destination)[0] / "filler")
    except (IndexError, OSError):
        raise Missed("there was no spool to fill") from None


def jump(who: str, seconds: int) -> Fault:
    """Its time of day; mended, it jumps back."""
    return Fault(f"clock of the {who} jumps by {seconds // HOUR_S:+} h",
                 lambda scene: scene.bed.set_clock(of(scene, who), seconds), 1, phases_with(who), harmless=ALWAYS)


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


def kill_engine_and_continue(scene: Scene) -> None:
    """Nothing of the hold may have been its tracer's."""
    kill_engine_of(scene, "source")
    stray_continues(scene)


def cancel(scene: Scene) -> None:
    """Heard when the coordinator goes on, while the step is under way."""
    scene.cancel = scene.bed.start(CLIENT, "godwit", "cancel", REDIS, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    time.sleep(ASKED_S)


def reboot(*who: str, **ends) -> Fault:
    def strike(scene: Scene) -> None:
        for one in who:
            scene.bed.reboot(of(scene, one))
    return Fault(f"{' and '.join(who)} {'is' if len(who) == 1 else 'are'} rebooted", strike, reboots=who, **ends)


WAYS = (("source", "destination"), ("destination", "source"), ("coordinator", "source"), ("source", "coordinator"),
        ("coordinator", "destination"), ("destination", "coordinator"))

FAULTS = (
    kill_daemon("coordinator", fatal=UNPREPARED),
    kill_daemon("source", fatal=(*UNPREPARED, "arming"), harmless=("committing",)),
    kill_daemon("destination", fatal=UNPREPARED[1:]),
    # In `finishing` all of it has been sent: the source may be armed before it has noticed.
    kill_engine("source", (*SOURCE_HAS_ENGINE, ASKING), fatal=("precopy", "freezing"), harmless=("committing",)),
    kill_engine("destination", DESTINATION_HAS_ENGINE, fatal=DESTINATION_HAS_ENGINE),
    Fault("page server is killed", kill_page_server, phases=DESTINATION_LIVES, fatal=("connecting", "precopy", "freezing"),
          harmless=("committing",)),
    *(freeze_daemon(who, 5) for who in ("source", "destination")),
    freeze_daemon("coordinator", 15, fatal=("finishing", "arming", "committing")),
    *(lose(*way, seconds) for way in WAYS for seconds in (1, 10)),
    *(unplug(who, 10) for who in ("source", "destination")),
    Fault("link is slow", slow, 4, DESTINATION_LIVES, harmless=ALWAYS),
    # What the pause writes has its room already: the agents' records, and the journal can wait.
    fill_disk("coordinator", harmless=WITH_A_PAUSE),
    *(fill_disk(who, harmless=("arming", "committing")) for who in ("source", "destination")),
    Fault("spool is full", fill_spool, 3, ARRIVING, holds_coordinator=True, fatal=ARRIVING[:-1], harmless=("finishing",),
          options=("--spool", "128M")),
    *(jump(who, seconds) for who in ("coordinator", "source", "destination") for seconds in (HOUR_S, -HOUR_S)),
    Fault("stray SIGCONTs", stray_continues, STRAY_S, (*WITH_A_PAUSE, *BROUGHT_ABOUT), harmless=ALWAYS),
    Fault("SIGCONTs come to what a killed engine held", kill_engine_and_continue, STRAY_S,
          (*WITH_A_PAUSE, ASKING), holds_coordinator=True, fatal=("freezing", "finishing", "arming"),
          harmless=("committing",)),
    Fault("it is cancelled", cancel, 1),
    reboot("coordinator", fatal=UNPREPARED),
    # In `finishing` all of it has been sent: a destination that is prepared when its source is lost runs on.
    reboot("source", fatal=UNPREPARED[:-1], harmless=("arming", "committing")),
    reboot("destination", fatal=(*UNPREPARED[1:], "arming", "committing")),
    reboot("source", "destination"),
    reboot("coordinator", "source", "destination"),
)

# What CI runs: each kind of fault where it matters most. Not what the quick part of another table does: daemons and
# engine jobs that are killed at their points, nodes that are rebooted within a step, what dies in pre-copy
# (network_test.py).
QUICK = (
    ("precopy", "spool is full"),
    ("precopy", "source to destination is cut for 1 s"),
    ("freezing", "disk of the source is full"),
    ("finishing", "destination is rebooted"),
    ("arming", "coordinator is rebooted"),
    ("arming", "clock of the source jumps by -1 h"),
    ("arming", "destination to source is cut for 1 s"),
    ("committing", "source stands still for 5 s"),
    ("killing", "SIGCONTs come to what a killed engine held"),
    ("rolling_back", "coordinator to source is cut for 1 s"),
    ("asking", "source and destination are rebooted"),
)
QUICK_WITHIN = (("committing", "destination is killed"),)

# What strikes within a phase, at any moment: in those that take their time, what ends somebody who has a part in it.
WITHIN = tuple((phase, name) for phase in ("precopy", "freezing", "finishing", "committing", "killing")
               for name in ("coordinator is killed", "source is killed", "destination is killed", "page server is killed",
                            "source is rebooted", "destination is rebooted"))
# And in the middle of a step, with its record written and what that announces not done: whoever is at it stands still there
# until the fault has struck.
MIDDLE = {"freezing": ("source", "agent.source.frozen"), "finishing": ("destination", "agent.destination.finished"),
          "arming": ("source", "agent.source.armed"), "committing": ("destination", "agent.destination.committed")}
IN_THE_MIDDLE = tuple((phase, fault.name) for phase in MIDDLE for fault in FAULTS
                      if " is cut for " in fault.name or fault.name.startswith("disk of the "))
QUICK_IN_THE_MIDDLE = (
    ("arming", "source to coordinator is cut for 1 s"),
    ("committing", "disk of the destination is full"),
)

# What `godwit migrate` gives as the reason, with exit code 1.
REASONS = {("precopy", "destination is killed"): "peer_lost", ("precopy", "destination is rebooted"): "peer_lost",
           **{(phase, "spool is full"): "no_space" for phase in ARRIVING[:-1]}}

DONE, FAILED, REFUSED, UNREACHED, UNKNOWN = 0, 1, 3, 4, 5


def codes(phase: str, fault: Fault, within: bool, is_gone: bool) -> set[int]:
    """The exit codes of `godwit migrate` that may come of this. When all is mended the outcome is known, unless nobody is
    left to tell it: redis is gone with its host."""
    phases_to_come = PHASES[PHASES.index(phase):] if within and phase in PHASES else (phase,)
    unharmed = all(one in fault.harmless or one == "killing" for one in phases_to_come)
    if phase == ROLLING_BACK or (phase in fault.fatal and not within):
        may = {FAILED}
    else:
        may = {DONE} if unharmed else {DONE, FAILED}
    if phase in ("surveying", "preparing") and fault.name.startswith("disk of the ") and not unharmed:
        may.add(REFUSED)
    if phase == "surveying" and (fault.name == "coordinator is killed" or
                                 fault.name.startswith("coordinator ") and fault.reboots):
        may.add(UNREACHED)  # it may not have been told that there is a migration
    return may | ({UNKNOWN} if is_gone else set())


def cells() -> list[tuple[str, Fault]]:
    return [(phase, fault) for phase in ALL_PHASES for fault in FAULTS if phase in fault.phases]


def named_cells(names) -> list[tuple[str, Fault]]:
    named = {fault.name: fault for fault in FAULTS}
    return [(phase, named[name]) for phase, name in names]
