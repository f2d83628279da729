#!/usr/bin/python3
"""The destination is gone with the power in the middle of the commit, and does not come back: redis stands still at its
source until an operator states that the node is off. Then it goes on; and when the node is found again after all, nothing of
its copy runs, and the next migration goes there."""

import json
import signal
import subprocess
import time

from bed import COORDINATOR, REDIS, outside
from fault_case import FaultCase, main
from godwit_lab import daemons

UNKNOWN_WITHIN = 120
# Where the destination is when the power fails: as it is prepared, and with the commit on its disk.
MOMENTS = ("agent.destination.prepared", "agent.destination.committed")
QUICK = ("committed",)


class Resolve(FaultCase):
    def godwit(self, *words: str):
        return daemons.godwit(self.bed.lab, *words, timeout=60)

    def check(self, moment: str):
        bed = self.bed
        source = bed.where()
        destination = bed.other(source)
        with bed.writing() as load:
            with self.watching() as watch:
                migration = self.lose_destination(moment, destination)
                said = migration.communicate(timeout=UNKNOWN_WITHIN)[0]
                self.assertEqual(migration.returncode, 5, said)
                self.assertEqual(bed.where(), "", "it was let go without a word")
                self.assertEqual(self.godwit("resolve", REDIS).returncode, 2, "nobody has stated that the node is off")
                done = self.godwit("resolve", REDIS, "--destination-is-off")
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                self.assertTrue(outside.wait_until(lambda: bed.where() == source, 10), "it does not go on")
                time.sleep(1)  # it is written to meanwhile
                bed.power_on(destination)
                bed.mend()
                self.assert_settled(source, watch)
                self.assertEqual(bed.listed(), [(source, "running")])
                history = json.loads(self.godwit("history", "--json").stdout)["migrations"][0]
                self.assertEqual(history["outcome"], "rolled_back")
            self.assert_moves_to(destination)
        self.assert_nothing_lost(load, longest_gap_ms=None)

    def lose_destination(self, moment: str, destination: str) -> subprocess.Popen:
        """Armed by then: the coordinator stands still until the power has failed, or the agent has died just before."""
        bed = self.bed
        if moment.endswith("committed"):
            bed.arm(destination, f"{moment}=kill")
        else:
            bed.arm(COORDINATOR, "coordinator.committing=stop")
        migration = bed.begin_migrate(REDIS, destination)
        reached = outside.wait_until(lambda: bed.is_stopped(COORDINATOR) or not bed.daemon_pids(destination), 60, 0.01)
        self.assertTrue(reached, "it never came to that")
        bed.power_off(destination)
        bed.signal_daemon(COORDINATOR, signal.SIGCONT)
        return migration


def add(moment: str) -> None:
    setattr(Resolve, f"test_after_{moment.rpartition('.')[2]}", lambda self: self.check(moment))


for moment in MOMENTS:
    add(moment)

if __name__ == "__main__":
    main(QUICK)
