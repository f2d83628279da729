#!/usr/bin/python3
"""Dumps by hand on a node that has an agent: the agent starts the holder of the tracker, which outlives it; a live migration
dismisses the holder, because two trackers would take each other's pages away."""

import signal
import unittest

from seed_case import DESTINATION, SOURCE, SeedCase

from godwit_lab import daemons

FIRST = "godwit dump -t $PID -D 1 --leave-running --track-mem"


class Agent(SeedCase):
    agents = True

    def test_the_agent_starts_the_holder_which_outlives_it(self):
        workload = self.begin("python")
        self.run_line(FIRST, workload)
        holder = workload.holder()
        parent = self.bed.shell(SOURCE, f"cat /proc/$(ps -o ppid= -p {holder} | tr -d ' ')/comm").stdout.strip()
        self.assertEqual(parent, "godwit-agent")
        self.assert_detached(workload, f"/(.*/{SOURCE}(/godwit/trackers)?)?")  # the agent's own place for it
        host = self.bed.lab.hosts[SOURCE]
        daemons.stop(self.bed.lab, host, signal.SIGKILL)
        self.addCleanup(lambda: [daemons.start(self.bed.lab, host), daemons.wait_until_registered(self.bed.lab)])
        self.assertEqual(workload.holder(), holder)
        before = workload.progress()
        said = self.run_line("godwit dump -t $PID -D 2 --prev-images-dir ../1", workload)
        moment = (before, workload.progress())
        self.assertNotIn("dump.whole", said)
        workload.settle()
        self.run_line("godwit restore -D 2 -d")
        self.assert_between(workload.state(), *moment, workload)

    def test_a_migration_dismisses_the_holder(self):
        workload = self.begin("python")
        self.run_line(FIRST, workload)
        self.assertTrue(workload.holder())
        shared = f"--assume-shared={workload.inside}"
        done = daemons.godwit(self.bed.lab, "migrate", str(workload.pid), "--from", SOURCE, "--to", DESTINATION, shared,
                              "--no-progress", timeout=120)
        if done.returncode:
            self.bed.print_logs()
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertFalse(workload.holder())
        self.assertFalse(workload.alive(SOURCE))
        workload.mark = (workload.home / "trace").stat().st_size
        self.assertGreater(workload.state(DESTINATION), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
