#!/usr/bin/python3
"""Some of the workloads, moved from host to host and back by `godwit migrate`; afterwards they verify themselves.

All of them go through the engine's jobs in tests/support/run-workload; here is what only real hosts have: agents, the page
path, clocks and networks of their own.
"""

import json
import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "faults"))

from bed import CLIENT, Bed, outside  # noqa: E402
from godwit_lab import daemons  # noqa: E402
from shown import Terminal  # noqa: E402

SOURCES = REPOSITORY / "tests" / "workloads"
# A sparse giant, one with sanitizers, one of another user, established connections, an interpreter.
WORKLOADS = ("counter", "threads", "sockets_listen", "tcp_close", "python_counter", "sparse", "asan_giant", "creds",
             "memfd_live", "exec_midway")
# The clocks of these hosts differ by a day. (posix_timers counts overruns, and a move too short for it to notice may take some.)
ON_CLOCKS = ("clocks", "monotonic_waits", "timerfd", "expiring_timers", "futex_timed")
READY_WITHIN = 20
RESULT_WITHIN = 60


class Moved(unittest.TestCase):
    same_pids = False

    @classmethod
    def setUpClass(cls):
        cls.bed = Bed(same_pids=cls.same_pids).__enter__()
        cls.addClassCleanup(cls.bed.__exit__, None, None, None)
        cls.shared = cls.bed.lab.state / "shared"
        (cls.shared / "bin").mkdir()
        for name in WORKLOADS + ON_CLOCKS:
            script, program = SOURCES / f"{name}.py", cls.bed.lab.bin.parent / "workloads" / name
            shutil.copy(script if script.exists() else program, cls.shared / "bin" / name)

    def setUp(self):
        self.addCleanup(lambda: self._outcome.success or self.bed.print_logs())

    def start(self, name: str, *command: str) -> Path:
        """The program of that name, or another one."""
        home = self.shared / name
        for place in (home, home / "local"):
            place.mkdir()
            place.chmod(0o777)
        interpreter = ["python3"] if (SOURCES / f"{name}.py").exists() else []
        command = command or (*interpreter, f"/srv/shared/bin/{name}")
        done = daemons.godwit(self.bed.lab, "run", "--name", name, "--on", "h1", "--", *command, f"/srv/shared/{name}")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(outside.wait_until(lambda: (home / "ready").exists(), READY_WITHIN), "it is not ready")
        return home

    def ended(self, name: str) -> dict:
        done = daemons.godwit(self.bed.lab, "ps", "--json")
        return next((entry for entry in json.loads(done.stdout)["workloads"]
                     if entry["name"] == name and entry["state"] == "exited"), {})

    def move_and_verify(self, name: str):
        home = self.start(name)
        # Remains of its connections keep the port of tcp_close for a minute where it has been.
        for turn, to in enumerate(("h2",) if name == "tcp_close" else ("h2", "h1")):
            code, said = self.bed.try_migrate(name, to)
            self.assertEqual(code, 0, said)
            if turn == 0 and name == "exec_midway":
                self.exec(home)  # it moves again as another program
        self.verify(name, home)

    def exec(self, home: Path):
        (home / "exec").touch()
        self.assertTrue(outside.wait_until(lambda: (home / "exec.done").exists(), READY_WITHIN), "no exec")

    def verify(self, name: str, home: Path):
        (home / "verify").write_text("live\n")
        result = home / "result"
        self.assertTrue(outside.wait_until(result.exists, RESULT_WITHIN), "it does not verify itself")
        self.assertEqual(result.read_text(), "pass\n")
        self.assertTrue(outside.wait_until(lambda: self.ended(name), 10), "it does not end")


class Workloads(Moved):
    """Each of them, and what depends on the round in which it happens."""

    def assert_moves_though_it_execs_in_the_first_round(self, program: str):
        name = f"{program}_in_a_round"
        home = self.start(name, "env", f"WORKLOAD={program}", "/srv/shared/bin/exec_midway")
        with Terminal() as terminal:
            migration = self.bed.start(CLIENT, "godwit", "migrate", name, "--to", "h2", "--rate-limit", "4M", "--json",
                                       stdout=subprocess.PIPE, stderr=terminal.end)
            sent = re.compile(r"round 0: [2-9]\.\d MiB of")
            self.assertTrue(outside.wait_until(lambda: sent.search(terminal.text()), 30), terminal.text())
            self.exec(home)
            self.assertNotIn("dirty again", terminal.text(), "the round was over too soon")
            said, _ = migration.communicate(timeout=120)
        self.assertEqual(migration.returncode, 0, said + terminal.text())
        self.assertEqual(outside.copies(self.bed.lab, "h1", "exe"), [])
        first, second, *_ = json.loads(said)["rounds"]
        self.assertLess(first["bytes"], 15 << 20, "it was sent to its end")
        self.assertGreater(second["bytes"], 8 << 20, "what the second image has filled was not sent")
        code, said = self.bed.try_migrate(name, "h1")
        self.assertEqual(code, 0, said)
        self.verify(name, home)

    def test_exec_in_a_round(self):
        self.assert_moves_though_it_execs_in_the_first_round("exec_midway")

    def test_exec_in_a_round_to_the_same_addresses(self):
        self.assert_moves_though_it_execs_in_the_first_round("exec_same_place")


class SamePids(Moved):
    """Hosts that give their processes the same numbers, as two machines do that were booted alike."""
    same_pids = True
    PID = 1777  # nobody's yet, on either host

    def test_a_workload_in_a_namespace_of_its_own(self):
        self.move_and_verify("threads")

    def start_as(self, host: str, *command: str) -> int:
        """A process in the host's own namespaces, with that PID."""
        words = " ".join(command)
        inside = self.bed.on(host, "sh", "-c", f"echo {self.PID - 1} > /proc/sys/kernel/ns_last_pid; "
                             f"{words} > /dev/null 2>&1 < /dev/null & echo $!")
        return int(inside)

    def test_a_process_of_the_hosts_own_whose_pid_is_taken_there(self):
        ticks = self.shared / "ticks"
        ticker = [sys.executable, str(REPOSITORY / "tests" / "faults" / "ticker.py"), "/srv/shared/ticks"]
        self.assertEqual(self.start_as("h2", "sleep", "600"), self.PID)
        self.assertEqual(self.start_as("h1", "setsid", *ticker), self.PID)
        self.addCleanup(lambda: [self.bed.on(host, "sh", "-c", f"kill -9 {self.PID} || true") for host in ("h1", "h2")])
        self.assertTrue(outside.wait_until(lambda: outside.read(ticks), 10), "it does not tick")
        code, said = self.bed.try_migrate(str(self.PID), "h2", "--from", "h1")
        self.assertEqual(code, 3, said)
        self.assertRegex(said, rf"PID {self.PID} of python3[^ ]* is taken here \(sleep\)")
        self.bed.on("h2", "kill", str(self.PID))
        code, said = self.bed.try_migrate(str(self.PID), "h2", "--from", "h1")
        self.assertEqual(code, 0, said)
        self.assertIn("ticker.py", self.bed.on("h2", "cat", f"/proc/{self.PID}/cmdline"))
        before = outside.read(ticks)
        self.assertTrue(outside.wait_until(lambda: outside.read(ticks) != before, 10), "it does not tick any more")


for workload in WORKLOADS + ON_CLOCKS:
    setattr(Workloads, f"test_{workload}", lambda self, name=workload: self.move_and_verify(name))


if __name__ == "__main__":
    unittest.main()
