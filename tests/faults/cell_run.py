"""One cell of the matrix, run: a migration that is disturbed in a phase, and how it must have ended when all is mended."""

import signal
import subprocess
import time
from dataclasses import dataclass, field

import records
from bed import COORDINATOR, REDIS, SETTLED_WITHIN, Bed, outside, report_of
from cells import BROUGHT_ABOUT, DONE, FAILED, MIDDLE, PHASES, REASONS, UNKNOWN, Fault, Missed, Scene, codes, of

REACHED_WITHIN = 60
ENDS_WITHIN = 150
BEFORE_THE_PAUSE = PHASES[:4]  # a cancel shakes hands first, and from there on all may be over by then
GONE = "redis is gone"
# Whether a budget is kept on a busy machine, and after a pause that a fault made long, is not the question here.
PATIENT = ("--on-no-progress", "force")
SLOWLY = ("--rate-limit", "20M")  # so that what strikes in pre-copy finds some left


@dataclass
class End:
    at: str  # the host that runs redis; empty: it is gone
    problems: list[str] = field(default_factory=list)
    said: str = ""  # by `godwit migrate`, with its exit code
    has_struck: bool = True  # the fault, while the migration was under way


@dataclass(frozen=True)
class When:
    """Before anything of the phase is done; or so many seconds after it was begun; or in the middle of its step (MIDDLE)."""
    after_s: float | None = None
    in_the_middle: bool = False

    @property
    def is_within(self) -> bool:
        return self.after_s is not None or self.in_the_middle


def run_cell(bed: Bed, phase: str, fault: Fault, when: When = When(), is_calm: bool = True) -> End:
    """`is_calm`: nothing else is wrong that might end the migration."""
    source = bed.where()
    scene = Scene(bed, source, bed.other(source), records.last_epoch([bed.records(host.name) for host in bed.lab.nodes]))
    side, point = MIDDLE[phase] if when.in_the_middle else ("coordinator", f"coordinator.{phase}")
    stops = of(scene, side)
    bed.arm(stops, f"{point}=stop")
    if phase in BROUGHT_ABOUT:
        bed.arm(scene.destination, BROUGHT_ABOUT[phase])
    options = (*PATIENT, *fault.options, *(SLOWLY if phase == "precopy" else ()))
    migration = bed.begin_migrate(REDIS, scene.destination, *options)
    reached = outside.wait_until(lambda: bed.is_stopped(stops), REACHED_WITHIN, 0.01)
    if when.after_s is not None:
        bed.signal_daemon(COORDINATOR, signal.SIGCONT)
        time.sleep(when.after_s)
    has_struck = reached and strike(fault, scene, None if when.after_s is None else migration)
    gone_is_right = may_be_gone(scene, fault)
    if not (reached and stops == COORDINATOR and fault.holds_coordinator):
        bed.signal_daemon(stops, signal.SIGCONT)
    time.sleep(fault.lasts)
    bed.mend()
    said = migration.communicate(timeout=ENDS_WITHIN)[0]
    end = await_end(bed, gone_is_right)
    end.said = f"godwit migrate ended with {migration.returncode}: {said}"
    end.has_struck = has_struck
    if not reached:
        end.problems.append(f"it never came to {phase}")
    claimed = {DONE: scene.destination, UNKNOWN: "nowhere that it knows"}.get(migration.returncode, source)
    if end.at and end.at != claimed:
        end.problems.append(f"godwit migrate says that redis is on {claimed}")
    may = codes(phase, fault, when.is_within, is_gone=not end.at)
    if not is_calm:
        may |= {DONE, FAILED}
    if migration.returncode not in may:
        end.problems.append(f"the exit code is not one of {sorted(may)}")
    reason = REASONS.get((phase, fault.name)) if is_calm and not when.is_within else None
    if scene.cancel:
        answer = scene.cancel.communicate(timeout=ENDS_WITHIN)[0]
        if scene.cancel.returncode == 0 and phase in PHASES:  # in the others there is a reason already
            reason = "cancelled"
        elif scene.cancel.returncode and phase in BEFORE_THE_PAUSE and not when.is_within:
            end.problems.append(f"the cancel was not taken: {answer}")
    given = report_of(said).get("reason") or {}
    if reason and (migration.returncode, given.get("code")) != (FAILED, reason):
        end.problems.append(f"the reason is not {reason}")
    return end


def strike(fault: Fault, scene: Scene, chased: subprocess.Popen | None) -> bool:
    """Whether something was struck. `chased`: the migration, if it goes on meanwhile, so that it may have ended first."""
    if not chased:
        fault.strike(scene)
        return True
    if chased.poll() is not None:
        return False
    try:
        fault.strike(scene)
    except Missed:
        return False
    return True


def may_be_gone(scene: Scene, fault: Fault) -> bool:
    """Whether the copy that counts has gone with its host, by the records that are there when that has happened: until all
    is mended no agent runs on a host that was rebooted."""
    rebooted = [who for who in ("source", "destination") if who in fault.reboots]
    if len(rebooted) != 1:
        return bool(rebooted)
    recorded = {who: records.phase_after(scene.bed.records(of(scene, who)), who, scene.epoch)
                for who in ("source", "destination")}
    if rebooted == ["destination"]:
        return recorded["destination"] == "resumed"  # before that it ran unheard, and the source's counts
    # A destination that is prepared when it has lost its source runs on; if that had let its copy go, it does not.
    return recorded["destination"] not in ("prepared", "committed", "resumed") or recorded["source"] in ("aborted", "thawed")


def await_end(bed: Bed, may_be_gone: bool) -> End:
    """`may_be_gone`: the only copy was on a host that was rebooted. In any other case there is one."""
    end = End("")

    def judge() -> bool:
        end.at = bed.where()
        end.problems = bed.remains.problems(is_gone=not end.at)
        listed = bed.listed()
        if listed != ([(end.at, "running")] if end.at else []):
            end.problems.append(f"redis runs on '{end.at}', and Godwit lists {listed}")
        if not end.at:
            end.problems += [f"a copy that does not run is left on {host}" for host in bed.hosts_with_copies()]
            if not may_be_gone:
                end.problems.append(GONE)
        return not end.problems

    outside.wait_until(judge, SETTLED_WITHIN, 0.2)
    return end
