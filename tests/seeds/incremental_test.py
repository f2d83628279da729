#!/usr/bin/python3
"""Incremental dumps: any of them gives back the state of its moment."""

import re
import unittest

import page
from seed_case import WORKLOADS, SeedCase


class Incremental(SeedCase):
    def sequence(self, kind: str):
        workload = self.begin(kind)
        dumps, (restore,) = page.section("Incremental dumps")
        moments = {}
        for line in dumps:
            directory = re.search(r"-D (\S+)", line.text)[1]
            before = workload.progress()
            said = self.run_line(line, workload)
            moments[directory] = (before, workload.progress())
            self.assertNotIn("dump.whole", said)
            frozen = sum(int(n) for n in re.findall(r"dump\.step name=\S+ us=(\d+)", said))
            print(f"{kind} {directory}: {self.size(directory) >> 10:,} KiB, {frozen / 1000:.1f} ms frozen")
        workload.stop_load()
        self.assertFalse(workload.alive(), "the last dump ends it")
        first, *later = moments
        for directory in later:
            self.assertLess(self.size(directory), self.size(first) / 2)
        for directory in (*later[::-1], first):
            workload.settle()
            self.run_line(restore.text.replace("-D 4", f"-D {directory}"))
            self.assert_between(workload.state(), *moments[directory], workload)
            workload.end()


for kind in WORKLOADS:
    setattr(Incremental, f"test_{kind}", lambda self, kind=kind: self.sequence(kind))

if __name__ == "__main__":
    unittest.main(verbosity=2)
