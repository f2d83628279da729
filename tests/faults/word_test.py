#!/usr/bin/python3
"""An armed source does what its destination's own record says: not before it says `resumed` or that it never will, not on the
word of records that are new, and also when the two cannot reach each other."""

import signal
import time

from bed import COORDINATOR, REDIS, outside
from fault_case import FaultCase, main
from godwit_lab import daemons, wire

THAW_S = 8  # longer than a destination waits until what it has committed runs
REFUSES_S = 6  # longer than an armed source waits before it asks for a refusal
RELAYED_WITHIN = 25  # the two sides give up on each other first
QUICK = ("does_not_thaw", "by_way_of_the_coordinator")


class Word(FaultCase):
    def test_committed_is_not_enough_when_the_copy_does_not_thaw(self):
        bed = self.bed
        source = bed.where()
        destination = bed.other(source)
        above = bed.lab.cgroup(destination) / "cgroup.freeze"
        with bed.writing() as load:
            with self.watching() as watch:
                bed.arm(COORDINATOR, "coordinator.committing=stop")
                migration = bed.begin_migrate(REDIS, destination)
                self.assertTrue(outside.wait_until(lambda: bed.is_stopped(COORDINATOR), 60, 0.01), "it is not armed")
                above.write_text("1")
                try:
                    bed.signal_daemon(COORDINATOR, signal.SIGCONT)
                    time.sleep(THAW_S)
                finally:
                    above.write_text("0")
                said = migration.communicate(timeout=120)[0]
                self.assert_settled(source, watch)
                self.assertEqual(migration.returncode, 1, said)
            self.assert_moves_to(destination)
        self.assert_nothing_lost(load, longest_gap_ms=None)

    def test_records_that_are_new_prove_nothing(self):
        """So nobody can end this but a reboot of that node: the bed is made anew."""
        bed = self.bed
        source = bed.where()
        destination = bed.other(source)
        with bed.writing() as load:
            load.abandon()
            with self.watching() as watch:
                bed.arm(destination, "agent.destination.resumed=kill")
                migration = bed.begin_migrate(REDIS, destination)
                self.assertTrue(outside.wait_until(lambda: not bed.daemon_pids(destination), 60), "the agent lives on")
                bed.records(destination).unlink()
                bed.start_daemon(destination)
                bed.wait_until_registered()
                time.sleep(REFUSES_S)
                self.assert_single(watch)
                self.assertEqual(bed.where(), destination, "what has resumed was killed")
                said = migration.communicate(timeout=120)[0]
                done = daemons.godwit(bed.lab, "resolve", REDIS, "--destination-is-off")
                time.sleep(1)
                self.assert_single(watch)
                self.assertEqual((migration.returncode, done.returncode), (5, 3), said + done.stdout + done.stderr)
        self.leave()

    def test_it_comes_by_way_of_the_coordinator_where_the_two_are_cut_off_from_each_other(self):
        bed = self.bed
        source = bed.where()
        destination = bed.other(source)
        with bed.writing() as load:
            with self.watching() as watch:
                bed.arm(COORDINATOR, "coordinator.killing=stop")
                migration = bed.begin_migrate(REDIS, destination)
                self.assertTrue(outside.wait_until(lambda: bed.is_stopped(COORDINATOR), 60, 0.01), "it has not committed")
                for one, other in ((source, destination), (destination, source)):
                    wire.lose(bed.lab.hosts[one].pid, bed.lab.hosts[other].address)
                self.assertEqual(bed.hosts_with_copies(), {source, destination})
                bed.signal_daemon(COORDINATOR, signal.SIGCONT)
                heard = outside.wait_until(lambda: bed.hosts_with_copies() == {destination}, RELAYED_WITHIN)
                bed.mend()
                self.assertTrue(heard, "the source has not heard that the other has resumed")
                said = migration.communicate(timeout=120)[0]
                self.assertEqual(migration.returncode, 0, said)
                self.assert_settled(destination, watch)
            self.assert_moves_to(source)
        self.assert_nothing_lost(load, longest_gap_ms=None)


if __name__ == "__main__":
    main(QUICK)
