#!/usr/bin/python3
"""Asking before moving: `godwit migrate --dry-run` and `--rehearse` of a redis under load. Either leaves both hosts as they
were, and no write is lost."""

import json
import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "faults"))

from bed import BUDGET_MS, REDIS, outside, report_of  # noqa: E402
from fault_case import FaultCase  # noqa: E402
from godwit_lab import daemons  # noqa: E402

REFUSED = 3


class AskingBefore(FaultCase):
    def pid(self, host: str) -> list[int]:
        return outside.copies(self.bed.lab, host, "redis-server")

    def history(self) -> list[dict]:
        return json.loads(daemons.godwit(self.bed.lab, "history", "--json").stdout)["migrations"]

    def assert_as_before(self, source: str, pids: list[int], watch: outside.Watch):
        self.assert_settled(source, watch)
        self.assertEqual(self.pid(source), pids)
        self.assertEqual(self.pid(self.bed.other(source)), [])

    def test_a_dry_run_touches_nothing(self):
        bed = self.bed
        source = bed.where()
        pids, history = self.pid(source), self.history()
        with bed.writing() as load:
            with self.watching() as watch:
                code, said = bed.try_migrate(REDIS, bed.other(source), "--dry-run")
                self.assertEqual(code, 0, said)
                preview = report_of(said)
                self.assertEqual(preview["obstacles"], [])
                self.assertGreater(preview["predicted"]["bytes"], 64 << 20)
                self.assertIn("of this workload", preview["predicted"]["basis"])
                code, said = bed.try_migrate(REDIS, source, "--dry-run", "--spool", "900G")
                self.assertEqual(code, REFUSED, said)
                code, said = bed.try_migrate(REDIS, bed.other(source), "--dry-run", "--spool", "900G")
                self.assertEqual(code, REFUSED, said)
                self.assertIn("of memory are needed", report_of(said)["obstacles"][0]["message"])
        self.assert_nothing_lost(load, longest_gap_ms=200)
        self.assertEqual(load.report["reconnects"], 0)
        self.assert_as_before(source, pids, watch)
        self.assertEqual(self.history(), history)

    def test_a_rehearsal_goes_all_the_way_and_back(self):
        bed = self.bed
        source = bed.where()
        pids = self.pid(source)
        with bed.writing() as load:
            with self.watching() as watch:
                code, said = bed.try_migrate(REDIS, bed.other(source), "--rehearse")
                self.assertEqual(code, 0, said)
        report = report_of(said)
        self.assertEqual(report["outcome"], "rehearsed")
        self.assertGreater(report["downtime_ms"], 0)
        self.assertLess(report["downtime_ms"], BUDGET_MS + 1000)
        self.assertAlmostEqual(sum(report["downtime_steps_ms"].values()), report["downtime_ms"], places=3)
        self.assert_nothing_lost(load)
        self.assertEqual(load.report["reconnects"], 0, "its connections were reset")
        self.assert_as_before(source, pids, watch)
        # And the next one is real.
        with bed.writing() as load:
            self.assert_moves_to(bed.other(source))
        self.assert_nothing_lost(load)


if __name__ == "__main__":
    unittest.main(verbosity=2)
