#!/usr/bin/python3
"""A tree of processes that a dump has left stopped: ended or continued as one, and refused as one."""

import unittest

from seed_case import HERE, SOURCE, SeedCase, Workload, read, wait_until

MEMBERS = ("root", "first", "second")


class Family(Workload):
    def __init__(self, bed, name: str):
        super().__init__(bed, name, f"/usr/bin/python3 {HERE}/family.py /srv/shared/{name}")
        wait_until(lambda: all(read(self.home / member) for member in MEMBERS), "all of them count")
        self.pids = {member: int(read(self.home / f"{member}.pid")) for member in MEMBERS}

    def counts(self) -> dict[str, int]:
        return {member: int(read(self.home / member)) for member in MEMBERS}

    def state_of(self, member: str) -> str:
        return self.bed.shell(SOURCE, f"ps -o stat= -p {self.pids[member]}").stdout.strip()[:1]

    def signal(self, name: str, member: str, state: str) -> None:
        self.bed.shell(SOURCE, f"kill -{name} {self.pids[member]}")
        wait_until(lambda: self.state_of(member) in state, f"{member} is in state {state}")


class FamilyTest(SeedCase):
    def setUp(self):
        super().setUp()
        self.family = Family(self.bed, self.id().rsplit(".", 1)[1])
        self.addCleanup(lambda: [self.bed.shell(SOURCE, f"kill -KILL {pid}") for pid in self.family.pids.values()])

    def assert_stands_still(self, *members: str):
        before = self.family.counts()
        self.bed.shell(SOURCE, "sleep 0.2")
        after = self.family.counts()
        for member in members:
            self.assertEqual(self.family.state_of(member), "T", member)
            self.assertEqual(before[member], after[member], member)

    def assert_runs(self, *members: str):
        before = self.family.counts()
        for member in members:
            wait_until(lambda: self.family.counts()[member] > before[member] + 3, f"{member} goes on")

    def leave_stopped(self, directory: str):
        self.run_line(f"godwit dump -t $PID -D {directory} --leave-stopped", self.family)

    def test_kill_ends_all_of_them(self):
        self.leave_stopped("1")
        self.assert_stands_still(*MEMBERS)
        self.run_line("godwit kill -t $PID", self.family)
        for pid in self.family.pids.values():
            self.assertNotEqual(self.bed.shell(SOURCE, f"kill -0 {pid}").returncode, 0)

    def test_resume_continues_all_but_those_that_were_stopped_before(self):
        self.family.signal("STOP", "second", "T")
        self.leave_stopped("1")
        self.assert_stands_still(*MEMBERS)
        self.run_line("godwit resume -t $PID", self.family)
        self.assert_runs("root", "first")
        self.assert_stands_still("second")
        self.family.signal("CONT", "second", "SR")
        self.assert_runs("second")

    def test_one_that_has_run_since_saves_all(self):
        self.leave_stopped("1")
        self.family.signal("CONT", "second", "SR")
        self.assert_runs("second")
        for command in ("kill", "resume"):
            self.assert_refused(f"godwit {command} -t $PID", "is not stopped any more", workload=self.family)
        self.family.signal("STOP", "second", "T")
        for command in ("kill", "resume"):
            self.assert_refused(f"godwit {command} -t $PID", "has run since it was dumped", workload=self.family)
        self.assert_stands_still(*MEMBERS)


if __name__ == "__main__":
    unittest.main(verbosity=2)
