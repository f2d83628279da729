#!/usr/bin/python3
"""Targets that would notice: one with a handler for SIGCONT, one whose parent waits for stops, one started by an interactive
bash. The engine job is killed while it holds them; afterwards they run as before, and so do their parents."""

import os
import re
import shutil
import subprocess
import time
import unittest
from pathlib import Path

from bed import REPOSITORY, Bed, outside
from godwit_lab import hosts

HERE = Path(__file__).resolve().parent
POINTS = ["engine.hold.stopped", "engine.hold.seized", "engine.inject.scratch", "engine.dump.state", "engine.dump.held"]
PROGRAMS = Path(os.environ.get("GODWIT_BIN", REPOSITORY / "build/release/bin")).parent / "workloads"


class Parents(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.bed = Bed().__enter__()
        cls.addClassCleanup(cls.bed.__exit__, None, None, None)
        cls.shared = cls.bed.lab.state / "shared"

    def setUp(self):
        self.bed.disarm()
        self.addCleanup(lambda: self._outcome.success or self.bed.print_logs())

    def find(self, *command: str) -> int:
        """The process on h1 with this command line, as the machine sees it. All of it: its parent's may contain it."""
        def look():
            for pid in outside.cgroups.processes(self.bed.name, "h1"):
                if outside.read(f"/proc/{pid}/cmdline").split("\0")[:-1] == list(command):
                    return pid
            return 0
        pid = outside.wait_until(look, 10)
        self.assertTrue(pid, f"there is no {command}")
        return pid

    @staticmethod
    def inside(pid: int) -> int:
        """The PID that the host itself uses."""
        return int(re.search(r"^NSpid:.*\s(\d+)$", outside.read(f"/proc/{pid}/status"), re.M)[1])

    def ticks(self, report: Path) -> tuple[int, int]:
        words = outside.read(report).split()
        return (int(words[0]), int(words[2])) if len(words) == 3 else (0, 0)

    def kill_engine(self, pid: int, point: str):
        """A migration of this process whose engine job dies at the point."""
        group = outside.read(f"/proc/{pid}/cgroup")
        self.bed.arm("h1", f"{point}=kill")
        code, said = self.bed.try_migrate(str(self.inside(pid)), "h2", "--from", "h1")
        self.assertEqual(self.bed.armed("h1"), "", f"never got there: {said}")
        self.assertEqual(code, 1, said)
        self.assertTrue(outside.wait_until(lambda: outside.can_run(pid), 10), f"it is {outside.state_of(pid)}")
        back = outside.wait_until(lambda: outside.read(f"/proc/{pid}/cgroup") == group, 5)
        self.assertTrue(back, outside.read(f"/proc/{pid}/cgroup"))
        self.assertEqual(re.search(r"TracerPid:\s(\d+)", outside.read(f"/proc/{pid}/status"))[1], "0")

    def assert_ticking(self, report: Path):
        before = self.ticks(report)[0]
        self.assertTrue(outside.wait_until(lambda: self.ticks(report)[0] > before, 10), "it does not tick any more")
        self.assertEqual(self.ticks(report)[1], 0, "its handler of SIGCONT ran")

    def test_target_with_a_handler_for_sigcont(self):
        self.check_workload("sigcont_handler", "sigcont_handler")

    def test_target_with_a_blocked_sigcont_pending(self):
        self.check_workload("pending_continue", "pending_stops")

    def test_target_with_blocked_stop_signals_pending(self):
        self.check_workload("pending_stops", "pending_stops")

    def check_workload(self, name: str, program: str):
        """It verifies by itself that nothing has happened to it."""
        shutil.copy(PROGRAMS / program, self.shared)
        home = self.shared / f"home-{name}"
        home.mkdir()
        inside = f"/srv/shared/{home.name}"
        self.bed.on("h1", "sh", "-c", f"cd /; WORKLOAD={name} setsid -f /srv/shared/{program} {inside} "
                    f"> {inside}/log 2>&1 < /dev/null")
        self.assertTrue(outside.wait_until((home / "ready").exists, 10), outside.read(home / "log"))
        pid = self.find(f"/srv/shared/{program}", inside)
        self.addCleanup(outside.kill, [pid])
        for point in POINTS:
            with self.subTest(point):
                self.kill_engine(pid, point)
        (home / "verify").write_text("")
        self.assertTrue(outside.wait_until(lambda: outside.read(home / "result"), 20), "no result")
        self.assertEqual(outside.read(home / "result").strip(), "pass", outside.read(home / "log"))

    def test_parent_that_waits_for_stops(self):
        seen, report = self.shared / "seen", self.shared / "child"
        command = f"setsid -f {HERE}/waiting_parent.py /srv/shared/seen /usr/bin/python3 {HERE}/ticker.py /srv/shared/child"
        self.bed.on("h1", "sh", "-c", f"cd /; {command} > /dev/null 2>&1 < /dev/null")
        pid = self.find("/usr/bin/python3", f"{HERE}/ticker.py", "/srv/shared/child")
        self.addCleanup(outside.kill, [pid])
        for point in POINTS:
            with self.subTest(point):
                self.kill_engine(pid, point)
                self.assert_ticking(report)
                # It may have been looking elsewhere during a stop, and has then seen the continuation alone.
                running = outside.wait_until(lambda: re.fullmatch("([SC]*C)?", outside.read(seen)), 5)
                self.assertTrue(running, f"the parent believes that it is stopped, or over: {outside.read(seen)}")
        outside.kill([pid])
        self.assertTrue(outside.wait_until(lambda: outside.read(seen).endswith("E"), 10), "the parent does not see the end")

    def test_interactive_bash_as_the_parent(self):
        screen, report = self.shared / "screen", self.shared / "job"
        terminal = hosts.popen(self.bed.lab, "h1", ["python3", str(HERE / "terminal.py"), "/srv/shared/screen"],
                               stdin=subprocess.PIPE)
        self.addCleanup(terminal.wait, 10)
        self.addCleanup(terminal.stdin.close)

        def type_in(text: str) -> None:
            terminal.stdin.write(text.encode())
            terminal.stdin.flush()

        # The program must have a file, not the terminal, at every descriptor.
        type_in(f"cd /; {HERE}/ticker.py /srv/shared/job > /dev/null 2>&1 < /dev/null\n")
        self.assertTrue(outside.wait_until(lambda: self.ticks(report)[0], 15), outside.read(screen))
        pid = self.find("/usr/bin/python3", f"{HERE}/ticker.py", "/srv/shared/job")
        self.addCleanup(outside.kill, [pid])
        for point in POINTS:
            with self.subTest(point):
                self.kill_engine(pid, point)
                self.assert_ticking(report)
        # In the foreground still, or in the background, where a shell puts what it has seen stopped.
        type_in("jobs\n")
        time.sleep(0.5)
        self.assertNotRegex(outside.read(screen).rpartition("jobs")[2], "Stopped")
        type_in("fg\n")
        time.sleep(0.5)
        type_in("\x03")
        gone = outside.wait_until(lambda: outside.state_of(pid) in ("", "Z"), 10)
        self.assertTrue(gone, f"it cannot be interrupted: {outside.read(screen)}")
        type_in("echo still here: $((40 + 2))\n")
        self.assertTrue(outside.wait_until(lambda: "still here: 42" in outside.read(screen), 10), outside.read(screen))
        type_in("exit\n")


if __name__ == "__main__":
    unittest.main(verbosity=2)
