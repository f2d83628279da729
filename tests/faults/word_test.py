#!/usr/bin/python3
"""An armed source does what its destination's own record says: not before it says `resumed` or that it never will, not on the
word of records that are new."""

import signal
import time

from bed import COORDINATOR, REDIS, outside
from fault_case import FaultCase, main
from godwit_lab import daemons

THAW_S = 8  # longer than a destination waits until what it has committed runs
REFUSES_S = 6  # longer than an armed source waits before it asks for a refusal
QUICK = ("does_not_thaw",)


class Word(FaultCase):
    def test_committed_is_not_enough_when_the_copy_does_not_thaw(self):
        bed = self.bed
        source = bed.where()
        destination = bed.other(source)
        above = bed.lab.cgroup(destination) / "cgroup.freeze"
        with bed.writing() as load:
            with self.watching() as watch:
                migration = self.stop_at("committing", destination)
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


if __name__ == "__main__":
    main(QUICK)
