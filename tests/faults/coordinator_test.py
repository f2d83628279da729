#!/usr/bin/python3
"""The coordinator is killed as it enters each phase, and started again: redis runs in exactly one place, with every write;
nothing is left; and the next migration succeeds. The agents bring the migration to its end, also when it stays away."""

import time

from bed import REDIS, COORDINATOR, outside
from fault_case import FaultCase, fault_points, main

# Where redis is in the end. Before the source is armed everything is undone.
ENDS = {
    "surveying": "source",
    "preparing": "source",
    "connecting": "source",
    "precopy": "source",
    "freezing": "source",
    "finishing": "source",
    "arming": "either",
    "committing": "either",
    "killing": "destination",
    "done": "destination",
}
# The destination cannot restore.
UNDONE = ("rolling_back", "rolled_back")
# A step around the commit got no answer: the agent of the destination is killed there.
ASKING = "asking"
# Reached when nobody answers for minutes. A kill there leaves a journal that says so: with that one the tests of
# coordinator/migration begin (outcome_test.cc, resolve_test.cc).
UNREACHED = {"undecided"}
AWAY = 15  # seconds: longer than the agents wait before they go on by themselves
# Of the tests' names: what CI runs.
QUICK = ("is_tried", "killed_at_freezing", "killed_at_arming", "killed_at_committing", "killed_at_killing", "killed_at_asking",
         "after_the_arming", "without_its_journal")


class Coordinator(FaultCase):
    def check(self, phase: str, ends: str, away: float = 0.5, at_destination: str = ""):
        bed = self.bed
        source = bed.where()
        destination = bed.other(source)
        with bed.writing() as load:
            with self.watching() as watch:
                if at_destination:
                    bed.arm(destination, at_destination)
                bed.arm(COORDINATOR, f"coordinator.{phase}=kill")
                migration = bed.begin_migrate(REDIS, destination)
                self.assertTrue(outside.wait_until(lambda: not bed.daemon_pids(COORDINATOR), 60), "it lives on")
                self.assertEqual(bed.armed(COORDINATOR), "")
                time.sleep(away)
                if away >= AWAY:
                    self.assertTrue(bed.where(), "redis stands still for want of a coordinator")
                bed.start_daemon(COORDINATOR)
                for host in (source, destination):
                    if not bed.daemon_pids(host):
                        bed.start_daemon(host)
                bed.wait_until_registered()
                migration.communicate(timeout=90)
                at = {"source": source, "destination": destination}.get(ends) or outside.wait_until(bed.where, 30)
                self.assert_settled(at, watch)
            self.assert_moves_to(bed.other(at))
        self.assert_nothing_lost(load, longest_gap_ms=None)

    def test_every_phase_is_tried(self):
        tried = {*ENDS, *UNDONE, ASKING, *UNREACHED}
        phases = {name.split(".")[1] for name in fault_points() if name.startswith("coordinator.")}
        self.assertEqual(phases - tried, set())

    def test_killed_at_asking(self):
        self.check(ASKING, "destination", at_destination="agent.destination.committed=kill")

    def test_without_its_journal_moves_what_came_back_before(self):
        """The agents have seen epochs that neither a journal nor the running copy tells of."""
        bed = self.bed
        destination = bed.other(bed.where())
        for _ in range(3):
            code, said = bed.try_migrate(REDIS, destination, "--rehearse")
            self.assertEqual(code, 0, said)
        bed.kill_daemon(COORDINATOR)
        for file in bed.state_of(COORDINATOR).glob("journal.db*"):
            file.unlink()
        bed.start_daemon(COORDINATOR)
        bed.wait_until_registered()
        self.assert_moves_to(destination)

    def test_that_stays_away_after_the_freeze_leaves_redis_running(self):
        self.check("finishing", "source", away=AWAY)

    def test_that_stays_away_after_the_arming_leaves_redis_running(self):
        self.check("committing", "either", away=AWAY)


def add(phase: str, ends: str, **how) -> None:
    setattr(Coordinator, f"test_killed_at_{phase}", lambda self: self.check(phase, ends, **how))


for phase, ends in ENDS.items():
    add(phase, ends)
for phase in UNDONE:
    add(phase, "source", at_destination="engine.restore.filled=fail")

if __name__ == "__main__":
    main(QUICK)
