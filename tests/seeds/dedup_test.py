#!/usr/bin/python3
"""Deduplication: superseded pages are freed, the top set stays whole, and a hole that is needed is found."""

import unittest

import page
from seed_case import WORKLOADS, SeedCase


class Dedup(SeedCase):
    def sequence(self, kind: str):
        workload = self.begin(kind)
        (first, second, dedup), (third, restore) = page.section("Deduplication")
        self.run_line(first, workload)
        whole = self.blocks("1")
        self.run_line(second, workload)
        grown = self.blocks("1") + self.blocks("2")
        self.run_line(dedup, workload)
        self.assertEqual(self.blocks("1") + self.blocks("2"), grown - self.superseded("2", grown, whole))
        before = workload.progress()
        self.run_line(third, workload)
        moment = (before, workload.progress())
        workload.stop_load()
        total = sum(self.blocks(d) for d in "123")
        print(f"{kind}: one copy {whole >> 10:,} KiB, three dumps {total >> 10:,} KiB")
        # What is new in memory since the first dump adds to one copy, what was written again does not.
        self.assertLess(total, whole * 1.1)
        workload.settle()
        self.run_line(restore)
        self.assert_between(workload.state(), *moment, workload)
        workload.end()
        self.assert_refused("godwit restore -D 1 -d", "pages-", "at offset", "freed by a dedup")
        self.assertFalse(workload.alive())

    def second_set_after(self, kind: str):
        """What `dedup -D 2` frees in the first set, the second one has."""
        workload = self.begin(kind)
        (first, second, dedup), (_, restore) = page.section("Deduplication")
        self.run_line(first, workload)
        before = workload.progress()
        self.run_line(second.text.replace("--leave-running ", ""), workload)
        moment = (before, workload.progress())
        workload.stop_load()
        self.run_line(dedup, workload)
        workload.settle()
        self.run_line(restore.text.replace("-D 3", "-D 2"))
        self.assert_between(workload.state(), *moment, workload)
        workload.end()
        self.assert_refused("godwit restore -D 1 -d", "pages-", "at offset", "freed by a dedup")

    def superseded(self, directory: str, grown: int, whole: int) -> int:
        """Everything in the second set was in the first, but for memory that has been added since."""
        freed = grown - (self.blocks("1") + self.blocks("2"))
        self.assertGreater(freed, self.blocks(directory) * 0.8)
        self.assertLessEqual(freed, self.blocks(directory))
        return freed


for kind in WORKLOADS:
    setattr(Dedup, f"test_{kind}", lambda self, kind=kind: self.sequence(kind))
    setattr(Dedup, f"test_{kind}_from_the_set_that_was_named", lambda self, kind=kind: self.second_set_after(kind))

if __name__ == "__main__":
    unittest.main(verbosity=2)
