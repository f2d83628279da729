#!/usr/bin/python3
"""What the demo says of bad facts: that they are bad, each by the sentence that is about it, and by its exit."""

import contextlib
import copy
import io
import json
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

import demo  # noqa: E402
import machine  # noqa: E402
import report  # noqa: E402

MIB = 1 << 20
THREADS = [1007, 1008, 1009]
GOOD = {
    "keys": 1000, "rate": 5000,
    "migration": {
        "downtime_ms": 50.0, "predicted_downtime_ms": 45.0, "downtime_steps_ms": {"freeze": 10.0, "memory": 40.0},
        "downtime_steps_order": ["freeze", "memory"], "total_s": 2.0, "gb_per_s": 0.5, "bytes": 70 * MIB,
        "rounds": [{"pages": 16384, "bytes": 64 * MIB, "seconds": 0.5, "dirty_bytes_after": 8 * MIB, "final": False},
                   {"pages": 1536, "bytes": 6 * MIB, "seconds": 0.04, "dirty_bytes_after": 0, "final": True}]},
    "return": {"downtime_ms": 40.0},
    "source_remains": [], "return_remains": [],
    "destination_peak_bytes": 100 * MIB,
    "spool": {"before": {"machine": 9 * MIB, "lab": MIB}, "after": {"machine": 9 * MIB, "lab": 2 * MIB}, "released": True},
    "client": {"acknowledged": 20000, "unknown": 3, "refused": 0, "seconds": 4.0, "reconnects": 1, "blackout_ms": 90.0,
               "second_longest_gap_ms": 5.0},
    "identity": {"before": THREADS, "after": THREADS, "returned": THREADS},
    "verdict": {"keys": 1000, "lost": 0, "examples": [], "carried_out": [17]},
    "digests": {"reference": "aa", "moved": "aa", "returned": "aa"},
}
# The sentences of the proof, by words of theirs.
WRITES, DIGEST, SAME, GONE, SPOOL, STEPS, BACK = (
    "acknowledged writes lost", "DEBUG DIGEST", "same PID 1007", "left of it at the source", "spool's memory",
    "downtime is accounted for", "moved back")
FLAGS = {"lost_writes": 0, "digest_equal": True, "same_pid": True, "source_gone": True, "tmpfs_released": True}


class Told:
    """What the demo does when this is what it has found."""

    def __init__(self, facts: dict):
        with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stdout(io.StringIO()) as out, \
                contextlib.redirect_stderr(io.StringIO()), mock.patch.object(demo, "DemoLab"), \
                mock.patch.object(demo, "ENDS", ()), mock.patch.object(demo, "run", return_value=facts), \
                mock.patch.object(sys, "argv", ["demo", "--json", f"{directory}/results.json"]):
            self.status = demo.main()
            self.results = json.loads(Path(directory, "results.json").read_text())
        self.text = out.getvalue()
        proof = self.text.split("  proof\n", 1)[1].splitlines()
        self.holds = [line[8:] for line in proof if line.startswith("    ok  ")]
        self.broken = [line[8:] for line in proof if line.startswith("    NOT ")]
        assert len(self.holds) + len(self.broken) == len(proof), self.text


def changed(*path_and_value) -> dict:
    """The good facts, but for one."""
    facts = copy.deepcopy(GOOD)
    *path, name, value = path_and_value
    place = facts
    for step in path:
        place = place[step]
    place[name] = value
    return facts


class VerdictsTest(unittest.TestCase):
    def assert_only(self, facts: dict, sentences: list[str], **flags):
        """That just these sentences are denied, and just these results differ from the good ones."""
        told = Told(facts)
        self.assertEqual(len(told.broken), len(sentences), told.text)
        for words, sentence in zip(sentences, told.broken):
            self.assertIn(words, sentence)
        self.assertEqual({name: told.results[name] for name in FLAGS}, FLAGS | flags)
        self.assertEqual(told.status, 1)
        return told

    def test_good_facts_hold(self):
        told = Told(GOOD)
        self.assertEqual(told.status, 0)
        self.assertEqual(told.broken, [])
        for words, sentence in zip((WRITES, DIGEST, SAME, GONE, SPOOL, STEPS, BACK), told.holds, strict=True):
            self.assertIn(words, sentence)
        self.assertEqual({name: told.results[name] for name in FLAGS}, FLAGS)

    def test_a_lost_write(self):
        facts = changed("verdict", "lost", 2)
        facts["verdict"]["examples"] = ["key:0000000007 is missing", "key:0000000008 holds what nobody wrote"]
        told = self.assert_only(facts, [WRITES, "key:0000000007 is missing", "key:0000000008 holds what nobody wrote"],
                                lost_writes=2)
        self.assertIn("2 of 20,000", told.broken[0])

    def test_a_write_that_was_refused_or_none_at_all(self):
        self.assert_only(changed("client", "refused", 1), [WRITES])
        self.assert_only(changed("client", "acknowledged", 0), [WRITES])

    def test_a_digest_of_something_else(self):
        self.assert_only(changed("digests", "moved", "bb"), [DIGEST], digest_equal=False)
        self.assert_only(changed("digests", "returned", "bb"), [BACK], digest_equal=False)
        self.assert_only(changed("digests", "reference", "bb"), [DIGEST, BACK], digest_equal=False)

    def test_another_pid_and_other_threads(self):
        for threads in ([1010, 1008, 1009], THREADS[:2], THREADS + [1010]):
            self.assert_only(changed("identity", "after", threads), [SAME], same_pid=False)
            self.assert_only(changed("identity", "returned", threads), [BACK], same_pid=False)

    def test_a_source_that_lives(self):
        told = self.assert_only(changed("source_remains", ["redis-server (4711)"]), [GONE], source_gone=False)
        self.assertIn("redis-server (4711)", told.broken[0])
        told = self.assert_only(changed("return_remains", ["godwit-engine (4712)"]), [BACK], source_gone=False)
        self.assertIn("godwit-engine (4712)", told.broken[0])

    def test_a_spool_that_is_held(self):
        self.assert_only(changed("spool", "released", False), [SPOOL], tmpfs_released=False)

    def test_steps_that_leave_more_than_a_tenth_unexplained(self):
        for memory_ms in (34.9, 45.1):
            told = self.assert_only(changed("migration", "downtime_steps_ms", "memory", memory_ms), [STEPS])
            steps = told.results["downtime_steps_ms"]
            self.assertAlmostEqual(steps[report.UNEXPLAINED], 40 - memory_ms)
            self.assertAlmostEqual(sum(steps.values()), told.results["downtime_ms"])
            self.assertIn("unexplained", told.text)

    def test_steps_that_leave_less(self):
        told = Told(changed("migration", "downtime_steps_ms", "memory", 35.1))
        self.assertEqual((told.status, told.broken), (0, []))
        self.assertAlmostEqual(told.results["downtime_steps_ms"][report.UNEXPLAINED], 4.9)


class FromOutsideTest(unittest.TestCase):
    def test_memory_counts_as_released_up_to_what_logs_take(self):
        before = {"machine": 100 * MIB, "lab": 10 * MIB}

        def after(lab: int) -> dict:
            return {"machine": 0, "lab": lab}

        self.assertTrue(machine.released(before, after(10 * MIB)))
        self.assertTrue(machine.released(before, after(10 * MIB + machine.ALLOWANCE)))
        self.assertFalse(machine.released(before, after(10 * MIB + machine.ALLOWANCE + 1)))

    def test_of_all_processes_only_the_page_server_may_stay(self):
        self.assertEqual(machine.left_over({7: "godwit-pageserv"}), [])
        comms = {1: "redis-server", 2: "godwit-engine", 3: "godwit-init", 4: "godwit", 5: ""}
        self.assertEqual(len(machine.left_over(comms)), len(comms))
        self.assertIn("redis-server (1)", machine.left_over(comms))


if __name__ == "__main__":
    unittest.main(verbosity=2)
