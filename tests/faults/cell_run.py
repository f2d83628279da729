"""One cell of the matrix, run: a migration that is disturbed in a phase, and how it must have ended when all is mended."""

import signal
import time
from dataclasses import dataclass, field

from bed import COORDINATOR, REDIS, SETTLED_WITHIN, Bed, outside
from cells import Fault, Scene, of

REACHED_WITHIN = 60
ENDS_WITHIN = 150
# Whether a budget is kept on a busy machine, and after a pause that a fault made long, is not the question here.
PATIENT = ("--on-no-progress", "force")
SLOWLY = ("--rate-limit", "20M")  # so that what strikes in pre-copy finds some left


@dataclass
class End:
    at: str  # the host that runs redis; empty: it is gone
    problems: list[str] = field(default_factory=list)
    said: str = ""  # by `godwit migrate`, with its exit code


def run_cell(bed: Bed, phase: str, fault: Fault) -> End:
    source = bed.where()
    scene = Scene(bed, source, bed.other(source))
    bed.arm(COORDINATOR, f"coordinator.{phase}=stop")
    migration = bed.begin_migrate(REDIS, scene.destination, *PATIENT, *(SLOWLY if phase == "precopy" else ()))
    reached = outside.wait_until(lambda: bed.is_stopped(COORDINATOR), REACHED_WITHIN, 0.01)
    held_by = bed.where() or source  # in the pause nobody runs, and nothing is committed
    if reached:
        fault.strike(scene)
    if not (reached and fault.holds_coordinator):
        bed.signal_daemon(COORDINATOR, signal.SIGCONT)
    time.sleep(fault.lasts)
    bed.mend()
    said = migration.communicate(timeout=ENDS_WITHIN)[0]
    end = await_end(bed, {of(scene, who) for who in fault.reboots}, held_by)
    end.said = f"godwit migrate ended with {migration.returncode}: {said}"
    if not reached:
        end.problems.append(f"it never came to {phase}")
    claimed = {0: scene.destination, 1: source}.get(migration.returncode, end.at)
    if end.at not in ("", claimed):
        end.problems.append(f"godwit migrate says that redis is on {claimed}")
    return end


def await_end(bed: Bed, rebooted: set[str], held_by: str) -> End:
    """`held_by`: the host with the copy that counted when these hosts were rebooted. It goes with its host: then there is
    none, unless the other one was prepared and heard of the loss. In any other case there is one."""
    may_be_gone = held_by in rebooted
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
                end.problems.append("redis is gone")
        return not end.problems

    outside.wait_until(judge, SETTLED_WITHIN, 0.2)
    return end
