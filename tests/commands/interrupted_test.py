#!/usr/bin/python3
"""A command that is interrupted in the midst of the memory: what it was about is as it was before, and nothing is left of it."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from command_case import ENGINE, WITHIN, main, others, start_time, stat_of, wait_until
from filled import FilledCase
from page_files import page_blocks

MIB = 1 << 20
SIZE = 256 * MIB
POLL = "7"
IN_FLIGHT = 32 * MIB  # the buffers between reading and writing, and more


class InterruptedCase(FilledCase):
    size = SIZE

    def written(self, directory: str) -> int:
        return page_blocks(self.place / directory)

    def command(self, *words: object) -> subprocess.Popen:
        """One that is not waited for."""
        with open(self.place / "log", "wb") as log:
            return subprocess.Popen([ENGINE, *map(str, words)], cwd=self.place, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def stop_when(self, begun, pid: int) -> None:
        """Looks all the time: a memory is written in a moment."""
        end = time.monotonic() + WITHIN
        while not begun():
            self.assertLess(time.monotonic(), end, "it does not begin")
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: stat_of(pid)[0] == "T", "it stops")

    def stop_midway(self, writer: int, directory: str) -> int:
        """How much is written."""
        self.stop_when(lambda: self.written(directory) > SIZE / 16, writer)
        written = self.written(directory)
        self.assertLess(written, SIZE - 2 * IN_FLIGHT, "that was too late")
        return written

    def said(self, event: str) -> str:
        """A line of the log."""
        return next((line for line in (self.place / "log").read_text().splitlines() if f" {event} " in line), "")

    def assert_no_dump(self, directory: str) -> None:
        self.assertFalse((self.place / directory / "inventory.img").exists())
        done = self.run_command("restore", "-d", "-D", directory)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("the dump did not finish", done.stdout)


class Dump(InterruptedCase):
    def test_without_a_tracker(self):
        pid = self.begin()
        for number, options in ((signal.SIGINT, []), (signal.SIGTERM, ["--leave-stopped"]), (signal.SIGHUP, ["-R"])):
            directory = number.name
            dump = self.command("dump", "-t", pid, "-D", directory, *options)
            self.stop_midway(dump.pid, directory)
            self.assertEqual(stat_of(pid)[0], "t", "it stands still")
            os.kill(dump.pid, number)
            os.kill(dump.pid, signal.SIGCONT)
            self.assertEqual(dump.wait(WITHIN), -number)
            self.assert_runs_on(pid)
            self.assert_no_dump(directory)
            wait_until(lambda: self.left() == [pid], "nothing else runs")
            self.assertEqual(self.kept(), set())
        self.must("dump", "-t", pid, "-D", "1")
        self.assert_ended(pid)
        self.assert_restores(pid, "1")
        self.assertEqual(self.digits(), "0")

    def test_with_a_tracker(self):
        """It is the holder that writes: it does not go on for nobody, and keeps what it knows."""
        pid = self.begin()
        self.must("dump", "-t", pid, "-D", "1", "-R", "--track-mem")
        holder = self.holder(pid)
        kept = {f"{pid}.{start_time(pid)}.holder"}
        for digit, (number, command) in enumerate(((signal.SIGINT, ["dump", "-R", "--track-mem"]), (signal.SIGTERM, ["dump"]),
                                                   (signal.SIGINT, ["dump", "--leave-stopped", "--track-mem"]),
                                                   (signal.SIGHUP, ["pre-dump"])), 1):
            directory = f"interrupted{digit}"
            self.fill(digit)
            dump = self.command(*command, "-t", pid, "-D", directory, "--prev-images-dir", "../1")
            before = self.stop_midway(holder, directory)
            os.kill(dump.pid, number)
            self.assertEqual(dump.wait(WITHIN), -number)
            os.kill(holder, signal.SIGCONT)
            self.assert_runs_on(pid)
            wait_until(lambda: Path(f"/proc/{holder}/syscall").read_text().split()[0] == POLL, "the holder waits for others")
            self.assertLess(self.written(directory), before + IN_FLIGHT, "it stopped writing")
            self.assert_no_dump(directory)
            self.assertEqual((self.holder(pid), self.kept()), (holder, kept))
        said = self.must("dump", "-t", pid, "-D", "3", "--prev-images-dir", "../1")
        self.assertNotIn("dump.whole", said)
        self.assert_ended(pid)
        self.assert_restores(pid, "3")
        self.assertEqual(self.digits(), str(digit))

    def test_who_frees_what_it_supersedes(self):
        """Then the dump before is of no use either, whoever was interrupted: the command, or the holder, which writes."""
        for number, victim in enumerate(("command", "holder")):
            pid = self.begin()
            one, two, three = (f"{number}.{n}" for n in (1, 2, 3))
            self.must("dump", "-t", pid, "-D", one, "-R", "--track-mem")
            holder = self.holder(pid)
            self.fill(1)
            dump = self.command("dump", "-t", pid, "-D", two, "-R", "--track-mem", "--auto-dedup",
                                "--prev-images-dir", f"../{one}")
            self.stop_midway(holder, two)
            if victim == "command":
                os.kill(dump.pid, signal.SIGINT)
                self.assertEqual(dump.wait(WITHIN), -signal.SIGINT)
                os.kill(holder, signal.SIGCONT)
            else:
                os.kill(holder, signal.SIGKILL)
                self.assertEqual(dump.wait(WITHIN), 1)
            self.assert_runs_on(pid)
            said = wait_until(lambda: self.said("dump.parents_unusable"), "it is said")
            self.assertIn(f"directories={self.place}/{one} ", said)
            self.assertIn(f"directory={self.place}/{two} ", self.said("dump.unusable"))
            self.assert_no_dump(two)
            said = self.must("dump", "-t", pid, "-D", three, "--prev-images-dir", f"../{one}")
            self.assertIn("dump.whole", said)
            self.assert_ended(pid)
            done = self.run_command("restore", "-d", "-D", one)
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertIn("freed by a dedup", done.stdout)
            wait_until(lambda: not self.left(), "nothing runs")
            self.assert_restores(pid, three)
            self.assertEqual(self.digits(), "1")
            self.end_all()
            self.output.unlink()

    def test_when_it_was_complete(self):
        """By a script, when all is written and the process is about to be left stopped."""
        pid = self.begin()
        script = self.script("kill -INT $PPID")
        dump = self.command("dump", "-t", pid, "-D", "1", "--leave-stopped", "--action-script", script)
        self.assertEqual(dump.wait(WITHIN), -signal.SIGINT)
        self.assert_runs_on(pid)
        wait_until(lambda: self.left() == [pid], "nothing else runs")
        self.assertEqual(self.kept(), set())
        # What an earlier dump has left stopped is that, still.
        for command in ("resume", "kill"):
            self.must("dump", "-t", pid, "-D", "1", "--leave-stopped")
            dump = self.command("dump", "-t", pid, "-D", "2", "-R", "--action-script", script)
            self.assertEqual(dump.wait(WITHIN), -signal.SIGINT)
            wait_until(lambda: self.left() == [pid], "nothing else runs")
            self.must(command, "-t", pid)
        self.assert_ended(pid)
        self.assertEqual(self.kept(), set())
        self.assert_restores(pid, "2")


class Restore(InterruptedCase):
    def test_leaves_no_process(self):
        pid = self.begin()
        self.must("dump", "-t", pid, "-D", "1")
        self.assert_ended(pid)
        for number, options in ((signal.SIGINT, []), (signal.SIGTERM, ["-d"]), (signal.SIGHUP, ["-n"])):
            count = len(self.lines())
            restore = self.command("restore", "-D", "1", *options)
            self.interrupt_midway(restore, number, lambda: max(self.memory(other) for other in others()))
            self.assertEqual(len(self.lines()), count, "it has never run")
        self.assertEqual(self.said("restore.images_unusable"), "")
        self.assert_restores(pid, "1")
        self.assertEqual(self.digits(), "0")

    def test_that_frees_what_it_reads(self):
        """It names what nothing can be restored from any more, also when it is killed, and nothing when it succeeds."""
        pid = self.begin()
        self.must("dump", "-t", pid, "-D", "1", "-R", "--track-mem")
        self.must("dump", "-t", pid, "-D", "2", "--prev-images-dir", "../1")
        self.assert_ended(pid)
        count = len(self.lines())
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGKILL):
            copy = self.place / number.name
            sets = [Path(shutil.copytree(self.place / name, copy / name, symlinks=True)) for name in ("1", "2")]
            whole = page_blocks(*sets)
            restore = self.command("restore", "-D", copy / "2", "--auto-dedup")
            self.interrupt_midway(restore, number, lambda: whole - page_blocks(*sets))
            self.assertEqual(len(self.lines()), count, "it has never run")
            self.assertIn(f'directories="{copy}/2, {copy}/1" ', self.said("restore.images_unusable"))
            done = self.run_command("restore", "-d", "-D", copy / "2")
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertIn("freed by a dedup", done.stdout)
            wait_until(lambda: not self.left(), "nothing runs")
            shutil.rmtree(copy)
        said = self.must("restore", "-d", "-D", "2", "--auto-dedup")
        self.assertNotIn("restore.images_unusable", said)
        self.assert_runs_on(pid)
        self.assertEqual(self.left(), [pid])

    def interrupt_midway(self, restore: subprocess.Popen, number: signal.Signals, done: Callable[[], int]) -> None:
        self.stop_when(lambda: done() > SIZE / 16, restore.pid)
        self.assertLess(done(), SIZE, "that was too late")
        os.kill(restore.pid, number)
        os.kill(restore.pid, signal.SIGCONT)
        self.assertEqual(restore.wait(WITHIN), -number)
        wait_until(lambda: not self.left(), "nothing runs")

    @staticmethod
    def memory(pid: int) -> int:
        try:
            return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
        except (FileNotFoundError, ProcessLookupError):
            return 0


if __name__ == "__main__":
    main()
