#!/usr/bin/python3
"""The demo in its lab, where something goes really wrong right before it looks: it says so of everything, and fails."""

import contextlib
import io
import json
import os
import shlex
import signal
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

sys.dont_write_bytecode = True
os.environ.setdefault("GODWIT_LAB", f"godwit-e2e-{os.getpid()}")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "deploy" / "demo.d"))

import demo  # noqa: E402
import machine  # noqa: E402
import redis  # noqa: E402

UNDONE, GONE, CHANGED = range(5), 20, 21  # keys
HELD = 32 << 20  # bytes of a tmpfs


def in_background(lab: demo.DemoLab, host: str, *command: str) -> None:
    lab.on(host, "sh", "-c", f"setsid -f {shlex.join(command)} > /dev/null 2>&1")


def wait_until(holds, patience_s: float = 10) -> None:
    deadline = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError("the demo could not be spoiled")
        time.sleep(0.02)


def leave_something(lab: demo.DemoLab, host: str) -> None:
    """At the source of the move a redis; at that of the return what an engine job would be."""
    if host == "h1":
        in_background(lab, host, "redis-server", "--port", "7000")
        return wait_until(lambda: machine.redis_on(lab, host))
    group = lab.lab.cgroup(host) / "left"
    group.mkdir()
    in_background(lab, host, "sh", "-c", f"echo $$ > {group}/cgroup.procs; exec sleep 1000")
    wait_until((group / "cgroup.procs").read_text)


def hold_memory(spool: demo.Spool) -> None:
    spool.lab.on("h2", "sh", "-c", f"head -c {HELD} /dev/zero > /dev/shm/held")


def undo_writes(data: demo.Dataset, lab: demo.DemoLab, host: str, _) -> None:
    def key(number: int) -> str:
        return f"key:{number:010}"

    demo.Dataset(keys=len(UNDONE), value_size=data.value_size).load(lab, host)
    lab.on(host, "redis-cli", "del", key(GONE))
    lab.on(host, "redis-cli", "setrange", key(CHANGED), "500", "other bytes")


def put_another_in_its_place(lab: demo.DemoLab, host: str) -> None:
    for pid in machine.redis_on(lab, host):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not machine.redis_on(lab, host))
    in_background(lab, host, *redis.SERVER, str(redis.PORT))
    redis.wait_until_up(lab, host, f"127.0.0.1:{redis.PORT}")


def forget_steps(report: dict) -> dict:
    """The longer half of them."""
    steps = report["downtime_steps_ms"]
    for name in sorted(steps, key=steps.get)[len(steps) // 2:]:
        del steps[name]
    return report


def after(spoil, step):
    def spoiled(*arguments):
        spoil(*arguments)
        return step(*arguments)
    return spoiled


class SpoiledDemoTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # It asks for the threads before the move, after it, and after the return.
        at_threads = iter([lambda *_: None, lambda *_: None, put_another_in_its_place])
        migrate = demo.DemoLab.migrate
        with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stdout(io.StringIO()) as out, \
                mock.patch.object(demo, "remains", after(leave_something, demo.remains)), \
                mock.patch.object(demo, "threads_of", after(lambda *where: next(at_threads)(*where), demo.threads_of)), \
                mock.patch.object(demo.Spool, "after", after(hold_memory, demo.Spool.after)), \
                mock.patch.object(demo.Dataset, "verify", after(undo_writes, demo.Dataset.verify)), \
                mock.patch.object(demo.DemoLab, "migrate", lambda *to: forget_steps(migrate(*to))), \
                mock.patch.object(sys, "argv", ["demo", "--size", "1M", "--rate", "2000", "--before", "1", "--after", "1",
                                                "--json", f"{directory}/results.json"]):
            cls.status = demo.main()
            cls.results = json.loads(Path(directory, "results.json").read_text())
        cls.text = out.getvalue()
        print(cls.text, flush=True)
        cls.denied = [line for line in cls.text.splitlines() if line.startswith("    NOT ")]

    def assert_denied(self, words: str):
        self.assertTrue(any(words in line for line in self.denied), f"nothing is said of {words!r}:\n{self.text}")

    def test_it_fails(self):
        self.assertEqual(self.status, 1)
        # That after the move nothing was put in its place yet.
        self.assertEqual([line.split()[1:3] for line in self.text.splitlines() if line.startswith("    ok  ")],
                         [["same", "PID"]])

    def test_writes_that_were_undone(self):
        self.assert_denied(f"key:{GONE:010} is missing")
        self.assert_denied(f"key:{CHANGED:010} holds what nobody wrote")
        # Each key is written to some ten times; one that was not is as it was.
        undone = [line for line in self.denied if " holds version 0, version " in line]
        self.assertTrue(undone)
        self.assertLessEqual(len(undone), len(UNDONE))
        self.assertEqual(self.results["lost_writes"], 2 + len(undone))
        self.assert_denied(f"{2 + len(undone)} of ")

    def test_another_digest(self):
        self.assertIs(self.results["digest_equal"], False)
        self.assert_denied("DEBUG DIGEST")

    def test_another_process(self):
        self.assertIs(self.results["same_pid"], False)
        self.assert_denied("moved back")

    def test_what_is_left_at_the_source(self):
        self.assertIs(self.results["source_gone"], False)
        self.assert_denied("at the source but redis-server (")
        self.assert_denied("nothing left but sleep (")

    def test_memory_that_is_held(self):
        self.assertIs(self.results["tmpfs_released"], False)
        self.assert_denied("the spool's memory is released")

    def test_steps_that_nobody_accounts_for(self):
        steps = self.results["downtime_steps_ms"]
        self.assertAlmostEqual(sum(steps.values()), self.results["downtime_ms"], delta=0.05)
        self.assertGreater(steps["unexplained"], self.results["downtime_ms"] / 10)
        self.assert_denied("of the downtime is accounted for")


if __name__ == "__main__":
    unittest.main(verbosity=2)
