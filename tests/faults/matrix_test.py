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
from cell_run import End, When, run_cell
from cells import (ALL_PHASES, IN_THE_MIDDLE, LASTS_S, QUICK, QUICK_IN_THE_MIDDLE, QUICK_WITHIN, WITHIN, Fault, cells,
                   named_cells)
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

    def check(self, phase: str, fault: Fault, when: When = When()) -> bool:
        """Whether the fault has struck."""
        ends: list[End] = []

        def act():
            ends.append(run_cell(self.bed, phase, fault, when))
            self.assertEqual(ends[0].problems, [], ends[0].said)
            return ends[0]
        self.check_end(act)
        return ends[0].has_struck

    def check_within(self, phase: str, fault: Fault, after_s: float):
        """What comes when the migration has ended tests nothing, so it comes earlier the next time."""
        for earlier in (1, 2, 4, 8):
            if self.check(phase, fault, When(after_s=after_s / earlier)):
                return
            self.setUp()
        self.fail("the migration had always ended before the fault struck")


def name_of(phase: str, fault: Fault, when: str = "") -> str:
    return f"test_{when}{phase}_{fault.name}".replace(" ", "_")


WITHIN_PREFIX, MIDDLE_PREFIX = "within_", "in_the_middle_of_"


def add(phase: str, fault: Fault) -> None:
    setattr(Matrix, name_of(phase, fault), lambda self: self.check(phase, fault))


def add_within(phase: str, fault: Fault) -> None:
    name = name_of(phase, fault, WITHIN_PREFIX)
    after_s = random.Random(name).uniform(0, LASTS_S[phase])
    setattr(Matrix, name, lambda self: self.check_within(phase, fault, after_s))


def add_in_the_middle(phase: str, fault: Fault) -> None:
    setattr(Matrix, name_of(phase, fault, MIDDLE_PREFIX), lambda self: self.check(phase, fault, When(in_the_middle=True)))


for cell in cells():
    add(*cell)
for cell in named_cells(WITHIN):
    add_within(*cell)
for cell in named_cells(IN_THE_MIDDLE):
    add_in_the_middle(*cell)

if __name__ == "__main__":
    main(quick=["test_the_observer", "is_tried", *(name_of(*cell) for cell in named_cells(QUICK)),
                *(name_of(*cell, WITHIN_PREFIX) for cell in named_cells(QUICK_WITHIN)),
                *(name_of(*cell, MIDDLE_PREFIX) for cell in named_cells(QUICK_IN_THE_MIDDLE))])
