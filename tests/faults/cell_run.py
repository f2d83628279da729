"""One cell of the matrix, run: a migration that is disturbed in a phase, and how it must have ended when all is mended."""

import signal
import time
from dataclasses import dataclass, field

from bed import COORDINATOR, REDIS, SETTLED_WITHIN, Bed, outside, report_of
from cells import ASKING, BROUGHT_ABOUT, PHASES, REASONS, Fault, Missed, Scene, of

REACHED_WITHIN = 60
ENDS_WITHIN = 150
PREPARED = ("arming", "committing", ASKING)  # the destination has all of it, and the source none that runs
BEFORE_THE_PAUSE = PHASES[:4]
GONE = "redis is gone"
# Whether a budget is kept on a busy machine, and after a pause that a fault made long, is not the question here.
PATIENT = ("--on-no-progress", "force")
SLOWLY = ("--rate-limit", "20M")  # so that what strikes in pre-copy finds some left


@dataclass
class End:
    at: str  # the host that runs redis; empty: it is gone
    problems: list[str] = field(default_factory=list)
    said: str = ""  # by `godwit migrate`, with its exit code


def run_cell(bed: Bed, phase: str, fault: Fault, after_s: float | None = None) -> End:
    """The fault strikes before anything of the phase is done, or `after_s` seconds after it was begun."""
    source = bed.where()
    scene = Scene(bed, source, bed.other(source))
    bed.arm(COORDINATOR, f"coordinator.{phase}=stop")
    if phase in BROUGHT_ABOUT:
        bed.arm(scene.destination, BROUGHT_ABOUT[phase])
    migration = bed.begin_migrate(REDIS, scene.destination, *PATIENT, *(SLOWLY if phase == "precopy" else ()))
    reached = outside.wait_until(lambda: bed.is_stopped(COORDINATOR), REACHED_WITHIN, 0.01)
    held_by = bed.where() or source  # in the pause nobody runs, and nothing is committed
    if after_s is not None:
        bed.signal_daemon(COORDINATOR, signal.SIGCONT)
        time.sleep(after_s)
    if reached:
        strike(fault, scene, may_miss=after_s is not None)
    if not (reached and fault.holds_coordinator):
        bed.signal_daemon(COORDINATOR, signal.SIGCONT)
    time.sleep(fault.lasts)
    bed.mend()
    said = migration.communicate(timeout=ENDS_WITHIN)[0]
    end = await_end(bed, may_be_gone(scene, phase, fault, held_by if after_s is None else None))
    end.said = f"godwit migrate ended with {migration.returncode}: {said}"
    if not reached:
        end.problems.append(f"it never came to {phase}")
    claimed = {0: scene.destination, 1: source}.get(migration.returncode, end.at)
    if end.at not in ("", claimed):
        end.problems.append(f"godwit migrate says that redis is on {claimed}")
    if fault.harmless and phase in PHASES and migration.returncode:
        end.problems.append("it did not come to its end")
    reason = REASONS.get((phase, fault.name)) if after_s is None else None
    if scene.cancel:
        answer = scene.cancel.communicate(timeout=ENDS_WITHIN)[0]
        if scene.cancel.returncode == 0 and phase in PHASES:  # in the others there is a reason already
            reason = "cancelled"
        elif scene.cancel.returncode and phase in BEFORE_THE_PAUSE and after_s is None:
            end.problems.append(f"the cancel was not taken: {answer}")
    given = report_of(said).get("reason") or {}
    if reason and (migration.returncode, given.get("code")) != (1, reason):
        end.problems.append(f"the reason is not {reason}")
    return end


def strike(fault: Fault, scene: Scene, may_miss: bool) -> None:
    try:
        fault.strike(scene)
    except Missed:
        if not may_miss:
            raise


def may_be_gone(scene: Scene, phase: str, fault: Fault, held_by: str | None) -> bool:
    """Whether the copy that counts has gone with its host. `held_by`: who had it; None: that went on changing."""
    rebooted = {of(scene, who) for who in fault.reboots}
    if held_by is None:
        return scene.source in rebooted or (scene.destination in rebooted and phase not in BEFORE_THE_PAUSE)
    # A destination that was prepared when it lost its source runs on.
    return held_by in rebooted and (phase not in PREPARED or scene.destination in rebooted)


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
