"""What all tests in the lab with a redis have in common: one bed for many faults, and what must hold after each."""

import fnmatch
import subprocess
import sys
import unittest

from bed import BUDGET_MS, COORDINATOR, REDIS, REPOSITORY, Bed, outside


class BedCase(unittest.TestCase):
    """One bed for a class, whose tests bring their own processes."""
    bed: Bed
    hosts = 2

    @classmethod
    def setUpClass(cls):
        cls.bed = Bed(cls.hosts).__enter__()
        cls.addClassCleanup(cls.bed.__exit__, None, None, None)

    def setUp(self):
        self.addCleanup(lambda: self._outcome.success or self.bed.print_logs())


class FaultCase(unittest.TestCase):
    maxDiff = None  # each of the problems counts
    bed: Bed | None = None
    hosts = 2

    @classmethod
    def tearDownClass(cls):
        cls.leave()

    @classmethod
    def leave(cls):
        bed, cls.bed = cls.bed, None
        if bed:
            bed.__exit__(None, None, None)

    def setUp(self):
        """A fault that left something behind must not be blamed on the next one: then everything is made anew."""
        if self.bed and not self.bed.is_sound():
            self.leave()
        if not self.bed:
            type(self).bed = Bed(self.hosts).__enter__()
            self.bed.start_redis()
        self.bed.disarm()

    def run(self, result=None):
        before = len(result.failures + result.errors) if result else 0
        super().run(result)
        if result and (new := (result.failures + result.errors)[before:]):
            for _, why in new:
                print(f"\n=== {self.id()}\n{why}", file=sys.stderr)
            if self.bed:
                self.bed.print_logs()

    def check_end(self, act) -> None:
        """`act` lets something happen under load, and returns how that ended (cell_run.End): one copy runs, which has every
        write and moves on, or there is none where that is right."""
        with self.bed.writing() as load:
            with self.watching() as watch:
                try:
                    end = act()
                finally:
                    self.assert_single(watch)  # before all other questions
            if end.at:
                self.assert_moves_to(self.bed.other(end.at))
            else:
                load.abandon()
        if end.at:
            self.assert_nothing_lost(load, longest_gap_ms=None)
        else:
            self.bed.run_redis()  # for the next one

    def stop_at(self, phase: str, to: str, *options: str) -> subprocess.Popen:
        """The coordinator stands still as it enters this phase of a migration to there."""
        self.bed.arm(COORDINATOR, f"coordinator.{phase}=stop")
        migration = self.bed.begin_migrate(REDIS, to, *options)
        reached = outside.wait_until(lambda: self.bed.is_stopped(COORDINATOR), 60, 0.01)
        self.assertTrue(reached, f"it never came to {phase}")
        return migration

    def watching(self) -> outside.Watch:
        return outside.Watch(self.bed.lab, "redis-server")

    def assert_settled(self, at: str, watch: outside.Watch | None = None):
        left = self.bed.wait_settled(at)
        if watch:
            self.assert_single(watch)
        self.assertEqual(left, [])

    def assert_single(self, watch: outside.Watch):
        self.assertEqual(watch.problems(), [])

    def assert_moves_to(self, host: str):
        """The proof that nothing is in the way any more."""
        code, said = self.bed.try_migrate(REDIS, host)
        self.assertEqual(code, 0, said)
        self.assert_settled(at=host)

    def assert_nothing_lost(self, load, longest_gap_ms: float | None = BUDGET_MS + 1000):
        self.assertEqual(load.verdict["lost"], 0, load.verdict)
        self.assertGreater(load.report["acknowledged"], 0)
        self.assertEqual(load.report["refused"], 0)
        if longest_gap_ms:
            self.assertLess(load.longest_gap_ms, longest_gap_ms, load.said)


def check_names(quick) -> None:
    """unittest drops a name that no test has without a word."""
    every = []
    suites = [unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"])]
    while suites:
        for one in suites.pop():
            suites.append(one) if isinstance(one, unittest.TestSuite) else every.append(one.id())
    for name in quick:
        pattern = name if "*" in name else f"*{name}*"
        if not any(fnmatch.fnmatchcase(test, pattern) for test in every):
            sys.exit(f"no test has a name like {name}, which CI is to run")


def main(quick=()) -> None:
    """All tests, or those that are named; with --quick these, which CI runs."""
    arguments = [word for word in sys.argv if word != "--quick"]
    if len(arguments) < len(sys.argv):
        check_names(quick)
        arguments += [word for name in quick for word in ("-k", name)]
    unittest.main("__main__", argv=arguments, verbosity=2)


def fault_points() -> list[str]:
    """Every name in fault_points.h."""
    text = (REPOSITORY / "common/base/fault_points.h").read_text()
    return [word for word in text.split('"') if "." in word and word.replace(".", "").replace("_", "").isalpha()]
