#!/usr/bin/python3
"""Incremental dumps: any of them gives back the state of its moment."""

import json
import re
import statistics
import unittest

import page
from seed_case import SOURCE, WORKLOADS, SeedCase


class Incremental(SeedCase):
    def sequence(self, kind: str):
        workload = self.begin(kind)
        dumps, (restore,) = page.section("Incremental dumps")
        moments, frozen = {}, {}
        for line in dumps:
            directory = re.search(r"-D (\S+)", line.text)[1]
            before = workload.progress()
            said = self.run_line(line, workload)
            moments[directory] = (before, workload.progress())
            self.assertNotIn("dump.whole", said)
            frozen[directory] = self.frozen_us(directory)
            print(f"{kind} {directory}: {self.size(directory) >> 10:,} KiB, {frozen[directory] / 1000:.1f} ms frozen")
        workload.stop_load()
        self.assertFalse(workload.alive(), "the last dump ends it")
        first, *later = moments
        for directory in later:
            self.assertLess(self.size(directory), self.size(first) / 2)
        self.assertLess(statistics.median(frozen[directory] for directory in later), frozen[first] / 2)
        for directory in (*later[::-1], first):
            workload.settle()
            self.run_line(restore.text.replace("-D 4", f"-D {directory}"))
            self.assert_between(workload.state(), *moments[directory], workload)
            workload.end()

    def frozen_us(self, directory: str) -> int:
        shown = json.loads(self.bed.shell(SOURCE, f"godwit image show {self.place}/{directory}/stats-dump").stdout)
        return int(shown[0]["entries"][0]["dump"]["frozen_time"])


for kind in WORKLOADS:
    setattr(Incremental, f"test_{kind}", lambda self, kind=kind: self.sequence(kind))

if __name__ == "__main__":
    unittest.main(verbosity=2)
