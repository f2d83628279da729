#!/usr/bin/python3
"""Every phase of a migration and every fault of the table (cells.py): redis runs in exactly one place, with every write;
nothing is left; Godwit says where it is; and the next migration succeeds. A workload whose only copy was on a node that was
rebooted is gone, and that is said too.

  matrix_test.py                 all cells, which takes about an hour
  matrix_test.py --quick         those that CI runs
  matrix_test.py -k PATTERN      as unittest has it: matrix_test.py -k '*committing*reboot*'"""

import random
import shutil
import subprocess
import time

from bed import outside
from cell_run import run_cell
from cells import ALL_PHASES, LASTS_S, QUICK, QUICK_WITHIN, WITHIN, Fault, cells, named_cells
from fault_case import FaultCase, fault_points, main

TWIN = "godwit-twin"
# What comes before and after a migration, and what takes minutes: coordinator_test.py.
NO_MOMENT = {"done", "rolled_back", "undecided"}


class Matrix(FaultCase):
    def test_the_observer_sees_what_runs_twice_and_nothing_else(self):
        bed = self.bed
        shutil.copy("/bin/sleep", bed.lab.state / "shared" / TWIN)
        started: list[subprocess.Popen] = []
        self.addCleanup(lambda: [process.wait(10) for process in started])
        self.addCleanup(lambda: [outside.kill(outside.copies(bed.lab, host, TWIN)) for host in ("h1", "h2")])
        for host, seen in (("h1", False), ("h2", True)):
            started.append(bed.start(host, f"/srv/shared/{TWIN}", "60"))
            self.assertTrue(outside.wait_until(lambda: outside.running(bed.lab, host, TWIN), 10))
            with outside.Watch(bed.lab, TWIN) as watch:
                time.sleep(0.5)
            self.assertEqual(bool(watch.problems()), seen, watch.problems())
            self.assertEqual(bool(watch.doubles), seen)

    def test_every_phase_is_tried(self):
        phases = {name.split(".")[1] for name in fault_points() if name.startswith("coordinator.")}
        self.assertEqual(phases - NO_MOMENT, set(ALL_PHASES))

    def check(self, phase: str, fault: Fault, after_s: float | None = None):
        def act():
            end = run_cell(self.bed, phase, fault, after_s)
            self.assertEqual(end.problems, [], end.said)
            return end
        self.check_end(act)


def name_of(phase: str, fault: Fault, within: bool = False) -> str:
    return f"test_{'within_' if within else ''}{phase}_{fault.name}".replace(" ", "_")


def add(phase: str, fault: Fault) -> None:
    setattr(Matrix, name_of(phase, fault), lambda self: self.check(phase, fault))


def add_within(phase: str, fault: Fault) -> None:
    name = name_of(phase, fault, within=True)
    after_s = random.Random(name).uniform(0, LASTS_S[phase])
    setattr(Matrix, name, lambda self: self.check(phase, fault, after_s))


for cell in cells():
    add(*cell)
for cell in named_cells(WITHIN):
    add_within(*cell)

if __name__ == "__main__":
    main(quick=["test_the_observer", "is_tried", *(name_of(*cell) for cell in named_cells(QUICK)),
                *(name_of(*cell, within=True) for cell in named_cells(QUICK_WITHIN))])
