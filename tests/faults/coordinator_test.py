#!/usr/bin/python3
"""The coordinator is killed as it enters each phase, and started again: redis runs in exactly one place, with every write;
nothing is left; and the next migration succeeds. The agents bring the migration to its end, also when it stays away."""

import signal
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
DIES_COMMITTED = "agent.destination.committed=kill"
# Reached when nobody answers for minutes. A kill there leaves a journal that says so: with that one the tests of
# coordinator/migration begin (outcome_test.cc, resolve_test.cc).
UNREACHED = {"undecided"}
BELIEVED_S = 4  # until a source is connected again and has been asked for whatever the journal says
# Seconds: longer than the agents wait before they go on by themselves, frozen and armed.
AWAY_FROZEN, AWAY_ARMED = 15, 8
# Killed there, it comes back with its journal out of a backup: of before the migration, which it then knows nothing of,
# and of when that had just begun to send pages.
BACKUP_ENDS = {"committing": "source", "killing": "destination", ASKING: "destination"}
BACKUPS = ("before", "precopy")
# Of the tests' names: what CI runs.
QUICK = ("is_tried", "*killed_at_committing", "*killed_at_killing",
         "killed_at_asking_with_a_backup_of_precopy", "after_the_arming", "when_all_is_prepared",
         "without_its_journal")


class Coordinator(FaultCase):
    def check(self, phase: str, ends: str, away: float = 0.5, at_destination: str = "", backup_of: str = ""):
        bed = self.bed
        source = bed.where()
        destination = bed.other(source)
        with bed.writing() as load:
            with self.watching() as watch:
                if at_destination:
                    bed.arm(destination, at_destination)
                backup = bed.backup() if backup_of == "before" else {}
                stop = "coordinator.precopy=stop," if backup_of == "precopy" else ""
                bed.arm(COORDINATOR, f"{stop}coordinator.{phase}=kill")
                migration = bed.begin_migrate(REDIS, destination)
                if stop:
                    self.assertTrue(outside.wait_until(lambda: bed.is_stopped(COORDINATOR), 60), "it never sent pages")
                    backup = bed.backup()
                    bed.signal_daemon(COORDINATOR, signal.SIGCONT)
                self.assertTrue(outside.wait_until(lambda: not bed.daemon_pids(COORDINATOR), 60), "it lives on")
                self.assertEqual(bed.armed(COORDINATOR), "")
                time.sleep(away)
                if away >= AWAY_ARMED:
                    self.assertTrue(bed.where(), "redis stands still for want of a coordinator")
                    self.assertEqual(bed.hosts_with_copies(), {bed.where()}, "a copy is held for want of a coordinator")
                if backup:
                    bed.put_back(backup)
                bed.start_daemon(COORDINATOR)
                if backup and not bed.daemon_pids(destination):
                    # Which alone knows of the commit: nothing that the coordinator says must let the source's copy run.
                    time.sleep(BELIEVED_S)
                    self.assertEqual(bed.where(), "", "the source was let go on the word of an old journal")
                for host in (source, destination):
                    if not bed.daemon_pids(host):
                        bed.start_daemon(host)
                bed.wait_until_registered()
                said = migration.communicate(timeout=90)[0]
                at = {"source": source, "destination": destination}.get(ends) or outside.wait_until(bed.where, 30)
                if backup_of != "before":  # a journal that does not know it has no word for it
                    self.assertEqual({0: destination, 1: source}.get(migration.returncode), at, said)
                self.assert_settled(at, watch)
            self.assert_moves_to(bed.other(at))
        self.assert_nothing_lost(load, longest_gap_ms=None)

    def test_every_phase_is_tried(self):
        tried = {*ENDS, *UNDONE, ASKING, *UNREACHED}
        phases = {name.split(".")[1] for name in fault_points() if name.startswith("coordinator.")}
        self.assertEqual(phases - tried, set())

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
        self.check("finishing", "source", away=AWAY_FROZEN)

    def test_that_stays_away_when_all_is_prepared_leaves_nothing_held(self):
        self.check("arming", "source", away=AWAY_FROZEN)

    def test_that_stays_away_after_the_arming_leaves_redis_running(self):
        self.check("committing", "either", away=AWAY_ARMED)


def add(phase: str, ends: str, name: str = "", **how) -> None:
    setattr(Coordinator, f"test_killed_at_{phase}{name}", lambda self: self.check(phase, ends, **how))


for phase, ends in ENDS.items():
    add(phase, ends)
for phase in UNDONE:
    add(phase, "source", at_destination="engine.restore.filled=fail")
add(ASKING, "destination", at_destination=DIES_COMMITTED)
for phase, ends in BACKUP_ENDS.items():
    for moment in BACKUPS:
        add(phase, ends, f"_with_a_backup_of_{moment}", backup_of=moment,
            at_destination=DIES_COMMITTED if phase == ASKING else "")

if __name__ == "__main__":
    main(QUICK)
