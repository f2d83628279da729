"""What the tests of the commands share: namespaces in which this program is PID 1, and programs in them with PIDs of our choice."""

import os
import signal
import subprocess
import sys
import time
import unittest
from collections.abc import Iterator
from pathlib import Path

sys.dont_write_bytecode = True
REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "support"))

from waiting import WITHIN, wait_until  # noqa: E402

BIN = Path(os.environ.get("GODWIT_BIN", REPOSITORY / "build/release/bin")).resolve()
ENGINE, GODWIT = str(BIN / "godwit-engine"), str(BIN / "godwit")
INSIDE = "GODWIT_TEST_INSIDE"
TOP = Path("/mnt")
RUN = Path("/run/godwit-engine")  # holders and notes, PID.STARTTIME.WHAT
LOCK = "starting.lock"  # of commands that start a holder: it stays

# Counts aloud.
COUNTER = """
n = 0
import time
while True:
    print(n, flush=True)
    n += 1
    time.sleep(0.005)
"""


def main() -> None:
    """Runs the tests of the calling program, inside."""
    if os.environ.get(INSIDE):
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", TOP], check=True)
        unittest.main(verbosity=2)
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "/usr/bin/python3",
                          *sys.argv])


def stat_of(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name; none when it is not there."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def start_time(pid: int) -> int:
    return int(stat_of(pid)[19])


def others() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != 1]


class CommandCase(unittest.TestCase):
    def setUp(self):
        self.place = TOP / self.id().rsplit(".", 1)[1]
        self.place.mkdir()
        self.output = self.place / "output"
        self.addCleanup(self.end_all)

    def end_all(self) -> None:
        """Whatever runs in here, the holders with it."""
        while left := others():
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass
            time.sleep(0.005)

    def start(self, program: str = COUNTER, pid: int = 0) -> int:
        """A python that runs this program, in a session of its own, and has said something."""
        if pid:
            Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
        before = len(self.lines())
        with open(self.output, "ab") as output:
            child = subprocess.Popen(["/usr/bin/python3", "-c", program], stdin=subprocess.DEVNULL, stdout=output,
                                     stderr=output, start_new_session=True, cwd="/")
        child.returncode = 0  # it is reaped here: what is restored has the same PID
        if pid:
            self.assertEqual(child.pid, pid)
        wait_until(lambda: len(self.lines()) > before, "the program starts")
        return child.pid

    def holder(self, pid: int) -> int:
        """The process that keeps the tracker; 0: there is none."""
        return next(self.holders(pid), 0)

    @staticmethod
    def holders(pid: int) -> Iterator[int]:
        for other in others():
            try:
                words = Path(f"/proc/{other}/cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if words[1:4] == [b"holder", b"-t", str(pid).encode()]:
                yield other

    @staticmethod
    def left() -> list[int]:
        """Who runs. Orphans come to us, who are PID 1."""
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        return others()

    @staticmethod
    def kept() -> set[str]:
        """What is kept of processes in /run."""
        return set(os.listdir(RUN)) - {LOCK} if RUN.exists() else set()

    def lines(self) -> list[str]:
        return self.output.read_text().split("\n")[:-1] if self.output.exists() else []

    def end(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    def run_command(self, *words: object, program: str = ENGINE, **more) -> subprocess.CompletedProcess:
        return subprocess.run([program, *map(str, words)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=WITHIN, cwd=self.place, **more)

    def begin_command(self, *words: object, program: str = ENGINE) -> subprocess.Popen:
        """One that is not waited for: communicate() has what it says."""
        return subprocess.Popen([program, *map(str, words)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, cwd=self.place)

    def script(self, *lines: str, step: str = "post-dump") -> Path:
        """An action script that does this at one of its steps."""
        path = self.place / "script"
        path.write_text("\n".join(["#!/bin/sh", f"[ $CRTOOLS_SCRIPT_ACTION = {step} ] || exit 0", *lines, ""]))
        path.chmod(0o755)
        return path

    def must(self, *words: object, **more) -> str:
        done = self.run_command(*words, **more)
        self.assertEqual(done.returncode, 0, f"{words}: {done.stdout}")
        return done.stdout

    def nobody_reads(self) -> int:
        """The writing end of a pipe that nobody reads any more."""
        read, write = os.pipe()
        os.close(read)
        self.addCleanup(os.close, write)
        return write

    def assert_runs_on(self, pid: int) -> None:
        self.assertNotIn(stat_of(pid)[:1], ([], ["Z"]), "it has ended")
        before = len(self.lines())
        wait_until(lambda: len(self.lines()) > before + 5, "it runs on")

    def assert_ended(self, pid: int) -> None:
        """That the dump has ended it; it is reaped."""
        self.assertEqual(wait_until(lambda: os.waitpid(pid, os.WNOHANG)[0], "it ends"), pid)

    def assert_restores(self, pid: int, images: str) -> None:
        """Where the dump has ended it: it counts on from there."""
        self.must("restore", "-d", "-D", images)
        self.assert_runs_on(pid)
        lines = self.lines()
        self.assertEqual(lines, [str(n) for n in range(len(lines))])
