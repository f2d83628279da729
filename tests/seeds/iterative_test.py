#!/usr/bin/python3
"""Iterative migration to another host, and back to life where it was when that fails."""

import unittest

import page
from seed_case import DESTINATION, SOURCE, WORKLOADS, SeedCase, wait_until


class Iterative(SeedCase):
    def sequence(self, kind: str):
        workload = self.begin(kind)
        (*to_copy, restore, kill), _ = page.section("Iterative migration")
        for line in to_copy:
            before = workload.progress()
            said = self.run_line(line, workload)
            self.assertNotIn("dump.whole", said)
            if line.verb == "dump":
                moment = (before, workload.progress())
        self.assertTrue(workload.alive(), "it is stopped, not gone")
        workload.settle()
        self.run_line(restore)
        self.assert_between(workload.state(DESTINATION), *moment, workload)
        self.run_line(kill, workload)
        self.assertFalse(workload.alive(SOURCE))
        self.assertTrue(workload.alive(DESTINATION))
        workload.end(DESTINATION)

    def resume_after_a_restore_that_fails(self, kind: str):
        workload = self.begin(kind)
        (*to_copy, restore, kill), (resume,) = page.section("Iterative migration")
        for line in to_copy:
            self.run_line(line, workload)
        images = self.bed.root(DESTINATION) / "var/tmp/images/C"
        (images / "inventory.img").unlink()
        failed = self.try_line(restore)
        self.assertNotEqual(failed.returncode, 0)
        self.assertIn("inventory.img", failed.stderr)
        self.assertFalse(workload.alive(DESTINATION))
        stopped_at = workload.progress()
        self.run_line(resume, workload)
        wait_until(lambda: workload.progress() > stopped_at + 20, "it goes on")
        # It has run since: nobody may take it for the stopped one.
        self.assert_refused("godwit kill -t $PID", "was not left stopped", workload=workload)
        self.bed.shell(SOURCE, f"kill -STOP {workload.pid}")
        self.assert_refused("godwit kill -t $PID", "was not left stopped", workload=workload)
        self.bed.shell(SOURCE, f"kill -CONT {workload.pid}")
        self.assertTrue(workload.alive())
        # And the tracker still knows everything: the next difference is right.
        before = workload.progress()
        said = self.run_line("godwit dump -t $PID -D /var/tmp/images/D --prev-images-dir ../C --tcp-close", workload)
        self.assertNotIn("dump.whole", said)
        moment = (before, workload.progress())
        workload.settle()
        self.run_line("godwit restore -D /var/tmp/images/D -d")
        self.assert_between(workload.state(), *moment, workload)

    def test_kill_refuses_one_that_has_run_since(self):
        workload = self.begin("python")
        self.run_line("godwit dump -t $PID -D 1 --leave-stopped", workload)
        at = workload.progress()
        self.bed.shell(SOURCE, f"kill -CONT {workload.pid}")
        wait_until(lambda: workload.progress() > at, "it runs")
        self.assert_refused("godwit kill -t $PID", "is not stopped", workload=workload)
        self.bed.shell(SOURCE, f"kill -STOP {workload.pid}")
        wait_until(lambda: self.bed.shell(SOURCE, f"grep -q '^State:.T' /proc/{workload.pid}/status").returncode == 0,
                   "it stops")
        self.assert_refused("godwit kill -t $PID", "has run since", workload=workload)
        self.assertTrue(workload.alive())


for kind in WORKLOADS:
    setattr(Iterative, f"test_{kind}", lambda self, kind=kind: self.sequence(kind))
    setattr(Iterative, f"test_{kind}_goes_on_after_a_restore_that_fails",
            lambda self, kind=kind: self.resume_after_a_restore_that_fails(kind))

if __name__ == "__main__":
    unittest.main(verbosity=2)
