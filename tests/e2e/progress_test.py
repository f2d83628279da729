#!/usr/bin/python3
"""What `godwit migrate` shows while it moves a redis under load over a slow link: on a terminal one line that is redrawn, with
round, bytes, rate, time left and predicted downtime; on a pipe, and with --json, plain lines."""

import json
import re
import subprocess
import sys
import unittest
from dataclasses import dataclass
from pathlib import Path

sys.dont_write_bytecode = True
REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "faults"))

from bed import CLIENT, REDIS  # noqa: E402
from fault_case import BedCase  # noqa: E402
from godwit_lab import daemons, wire  # noqa: E402
from shown import REDRAWN, Terminal  # noqa: E402

SIZE = 112 << 20
MBIT = 120
LINK = MBIT * 1_000_000 / 8  # bytes a second
SHOWN = 0.05 * (1 << 20)  # no smaller difference between two numbers of MiB
BYTES, TIME = r"([0-9.]+ (?:[KMG]i)?B)", r"([0-9.]+ m?s)"
LIVE = re.compile(rf"round (\d+): {BYTES} of {BYTES}(?: \((\d+) %\))?(?:  {BYTES}/s)?(?:  ETA (\d+:\d\d))?"
                  rf"(?:  downtime ~{TIME})?")
ROUND = re.compile(rf"round (\d+): {BYTES} in {TIME} \({BYTES}/s\), {BYTES} dirty again")
FREEZING = re.compile(rf"predicted downtime {TIME}: freezing")
UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "ms": 0.001, "s": 1}


def value(shown: str | None) -> float:
    """Bytes or seconds; 0 when there is nothing."""
    number, unit = (shown or "0 B").split()
    return float(number) * UNITS[unit]


@dataclass
class Sign:
    """A live line, and when it was shown."""
    at: float
    round: int
    sent: float
    expected: float
    percent: int
    rate: float
    left: float | None
    downtime: float

    @staticmethod
    def read(at: float, line: str) -> "Sign":
        found = LIVE.fullmatch(line)
        if not found:
            raise AssertionError(f"what does it mean? {line!r}")
        number, sent, expected, percent, rate, left, downtime = found.groups()
        minutes, seconds = left.split(":") if left else (0, 0)
        return Sign(at, int(number), value(sent), value(expected), int(percent or -1), value(rate),
                    int(minutes) * 60 + int(seconds) if left else None, value(downtime))


class Progress(BedCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bed.run_redis(SIZE)

    def slow_link(self):
        for host in self.bed.lab.nodes:
            wire.limit(self.bed.lab.switch, host.pid, host.name, MBIT)
        self.addCleanup(self.bed.mend)

    def begin_migrate(self, *options: str, **streams) -> subprocess.Popen:
        to = self.bed.other(self.bed.where())
        return self.bed.start(CLIENT, "godwit", "migrate", REDIS, "--to", to, "--tcp-close", *options, **streams)

    def report(self, said: str) -> dict:
        named = re.search(r"\(migration (\S+)\)", said)
        done = daemons.godwit(self.bed.lab, "watch", named[1], "--json", "--no-progress")
        self.assertEqual(done.returncode, 0, done)
        return json.loads(done.stdout)

    def test_a_terminal_shows_rounds_bytes_rate_time_left_and_downtime(self):
        self.slow_link()
        with self.bed.writing(), Terminal() as terminal:
            migration = self.begin_migrate(stdout=terminal.end, stderr=terminal.end)
            self.assertEqual(migration.wait(120), 0)
        lines = terminal.lines()
        report = self.report(terminal.text())
        rounds = {int(found[1]): (at, found) for at, line in lines if (found := ROUND.fullmatch(line))}
        signs = [Sign.read(at, line) for at, line in lines if re.match(r"round \d+: \S+ \S+ of ", line)]
        self.assert_rounds_are_those_of(report, {number: found for number, (_, found) in rounds.items()})
        for number, (ended, found) in rounds.items():
            self.assert_sane([sign for sign in signs if sign.round == number], ended, value(found[2]))
        first = [sign for sign in signs if sign.round == 0]
        self.assertGreater(len({sign.sent for sign in first}), 10)
        self.assertGreater(first[0].expected, SIZE)
        self.assertLess(first[0].sent, 0.3 * first[0].expected)
        self.assertGreater(first[-1].sent, 0.6 * first[-1].expected)
        self.assertGreater(first[0].left or first[1].left or first[2].left, first[-1].left + 3)
        self.assert_downtime_is_foretold(report, signs, [found for _, line in lines if (found := FREEZING.fullmatch(line))])
        # What stays is lines, then the report: nothing that was to be drawn over.
        self.assertRegex(re.split(REDRAWN, terminal.text())[-1], rf"^{REDIS} from h. to h.: done in ")

    def assert_rounds_are_those_of(self, report: dict, shown: dict[int, re.Match]):
        in_precopy = [r for r in report["rounds"] if not r["final"]]
        self.assertGreater(len(shown), 1)
        self.assertEqual(sorted(shown), list(range(len(shown))))
        # What is sent right before the pause is counted as a round, but not shown as one.
        self.assertIn(len(in_precopy) - len(shown), (0, 1), in_precopy)
        for number, found in shown.items():
            actual = in_precopy[number]
            self.assert_shows(found[2], actual["bytes"])
            self.assert_shows(found[3], actual["seconds"])
            self.assert_shows(found[4], actual["bytes"] / actual["seconds"])
            self.assert_shows(found[5], actual["dirty_bytes_after"])

    def assert_shows(self, shown: str, actual: float):
        """To one place after the point."""
        self.assertAlmostEqual(value(shown), actual, delta=0.051 * UNITS[shown.split()[1]])

    def assert_sane(self, signs: list[Sign], ended: float, sent: float):
        """Of one round: when it ended, and what had been sent in it by then."""
        for before, sign in zip(signs, signs[1:]):
            self.assertGreaterEqual(sign.sent, before.sent, f"{before} and then {sign}")
            self.assertEqual(sign.expected, before.expected)
        for sign in signs:
            self.assertLess(sign.sent, 1.05 * sent + SHOWN, sign)
            if sign.percent >= 0:
                share = min(1, sign.sent / sign.expected)
                self.assertAlmostEqual(sign.percent / 100, share, delta=0.01 + 2 * SHOWN / sign.expected)
            if sign.at - signs[0].at > 2:  # buffers are filled at first
                self.assertAlmostEqual(sign.rate / LINK, 1, delta=0.4, msg=sign)
                if sign.sent < sign.expected:
                    self.assertAlmostEqual(sign.left, (sign.expected - sign.sent) / sign.rate, delta=1, msg=sign)
                    self.assertAlmostEqual(sign.left, ended - sign.at, delta=5, msg=sign)

    def assert_downtime_is_foretold(self, report: dict, signs: list[Sign], freezing: list[re.Match]):
        self.assertEqual({sign.downtime for sign in signs if sign.round == 0}, {0}, "who could know?")
        foretold = {}
        for sign in signs:
            if sign.round > 0:
                self.assertGreater(sign.downtime, 0, sign)
                self.assertEqual(foretold.setdefault(sign.round, sign.downtime), sign.downtime)
        self.assertIn(1, foretold, "the first round's writes take their time on this link")
        dirty = report["rounds"][0]["dirty_bytes_after"]
        self.assertGreater(foretold[1], 0.6 * dirty / LINK)
        self.assertLess(foretold[1], 1.6 * dirty / LINK + 0.5)
        self.assertEqual(len(freezing), 1)
        at_last = value(freezing[0][1])
        self.assertLess(at_last, foretold[1])
        self.assert_shows(freezing[0][1], report["predicted_downtime_ms"] / 1000)

    def assert_plain(self, text: str):
        self.assertEqual([c for c in text if c != "\n" and not c.isprintable()], [], text)

    def test_a_pipe_gets_plain_lines(self):
        self.slow_link()
        with self.bed.writing():
            migration = self.begin_migrate(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            said, progress = migration.communicate(timeout=120)
        self.assertEqual(migration.returncode, 0, said + progress)
        self.assert_plain(said + progress)
        lines = progress.splitlines()
        self.assertIn("looking at the workload", lines)
        # More than one where the last round did not fit into the budget: then another round comes first.
        kinds = "".join("f" if FREEZING.fullmatch(line) else "r" for line in lines
                        if FREEZING.fullmatch(line) or ROUND.fullmatch(line))
        self.assertRegex(kinds, "^(r+f)+")
        self.assertNotIn("ff", kinds)
        self.assert_rounds_are_those_of(self.report(said), {int(found[1]): found for line in lines
                                                            if (found := ROUND.fullmatch(line))})
        self.assertEqual([line for line in lines if LIVE.match(line)], [])

    def test_json_goes_to_its_pipe_whatever_the_terminal_shows(self):
        with Terminal() as terminal:
            migration = self.begin_migrate("--json", stdout=subprocess.PIPE, stderr=terminal.end)
            said, _ = migration.communicate(timeout=120)
        self.assertEqual(migration.returncode, 0, said)
        self.assert_plain(said)
        self.assertEqual(json.loads(said)["outcome"], "done")
        self.assertRegex(terminal.text(), REDRAWN)
        self.assertRegex(terminal.text(), ROUND)


if __name__ == "__main__":
    unittest.main(verbosity=2)
