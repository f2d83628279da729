#!/usr/bin/python3
"""A command that is interrupted in the midst of the memory: what it was about is as it was before, and nothing is left of it."""

import os
import signal
import subprocess
import time
from pathlib import Path

from command_case import ENGINE, RUN, WITHIN, CommandCase, main, others, start_time, stat_of, wait_until

MIB = 1 << 20
SIZE = 256 * MIB
LOCK = "starting.lock"  # of commands that start a holder: it stays
POLL = "7"
IN_FLIGHT = 32 * MIB  # the buffers between reading and writing, and more

# Fills all of its memory with the digit that it finds in a file, and counts aloud; asked, it says which digits it has.
PROGRAM = f"""
import os, time
memory = bytearray({SIZE})
def fill(digit):
    for at in range(0, {SIZE}, {MIB}):
        memory[at:at + {MIB}] = digit * {MIB}
fill(b"0")
n = 0
while True:
    print(n, flush=True)
    n += 1
    if os.path.exists("PLACE/fill"):
        fill(open("PLACE/fill", "rb").read())
        os.unlink("PLACE/fill")
    if os.path.exists("PLACE/say"):
        open("PLACE/draft", "wb").write(bytes(sorted(set(memory[::4096]))))
        os.rename("PLACE/draft", "PLACE/said")
        os.unlink("PLACE/say")
    time.sleep(0.005)
"""


class InterruptedCase(CommandCase):
    def begin(self) -> int:
        return self.start(PROGRAM.replace("PLACE", str(self.place)))

    def fill(self, digit: int) -> None:
        (self.place / "draft").write_text(str(digit))
        (self.place / "draft").rename(self.place / "fill")
        wait_until(lambda: not (self.place / "fill").exists(), "it fills its memory")

    def digits(self) -> str:
        (self.place / "said").unlink(missing_ok=True)
        (self.place / "say").touch()
        wait_until(lambda: (self.place / "said").exists(), "it says what it has")
        return (self.place / "said").read_text()

    def written(self, directory: str) -> int:
        try:
            return sum(file.stat().st_blocks * 512 for file in (self.place / directory).glob("pages-*.img"))
        except FileNotFoundError:
            return 0

    def command(self, *words: object) -> subprocess.Popen:
        """One that is not waited for."""
        return subprocess.Popen([ENGINE, *map(str, words)], cwd=self.place, stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

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

    def assert_no_dump(self, directory: str) -> None:
        self.assertFalse((self.place / directory / "inventory.img").exists())
        done = self.run_command("restore", "-d", "-D", directory)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("the dump did not finish", done.stdout)

    def kept(self) -> list[str]:
        return [name for name in os.listdir(RUN) if name != LOCK] if RUN.exists() else []


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
            self.assertEqual(self.kept(), [])
        self.must("dump", "-t", pid, "-D", "1")
        self.assert_ended(pid)
        self.assert_restores(pid, "1")
        self.assertEqual(self.digits(), "0")

    def test_with_a_tracker(self):
        """It is the holder that writes: it does not go on for nobody, and keeps what it knows."""
        pid = self.begin()
        self.must("dump", "-t", pid, "-D", "1", "-R", "--track-mem")
        holder = self.holder(pid)
        kept = [f"{pid}.{start_time(pid)}.holder"]
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

    def test_when_it_was_complete(self):
        """By a script, when all is written and the process is about to be left stopped."""
        pid = self.begin()
        script = self.place / "script"
        script.write_text("#!/bin/sh\n[ $CRTOOLS_SCRIPT_ACTION != post-dump ] || kill -INT $PPID\n")
        script.chmod(0o755)
        dump = self.command("dump", "-t", pid, "-D", "1", "--leave-stopped", "--action-script", script)
        self.assertEqual(dump.wait(WITHIN), -signal.SIGINT)
        self.assert_runs_on(pid)
        wait_until(lambda: self.left() == [pid], "nothing else runs")
        self.assertEqual(self.kept(), [])
        # What an earlier dump has left stopped is that, still.
        for command in ("resume", "kill"):
            self.must("dump", "-t", pid, "-D", "1", "--leave-stopped")
            dump = self.command("dump", "-t", pid, "-D", "2", "-R", "--action-script", script)
            self.assertEqual(dump.wait(WITHIN), -signal.SIGINT)
            wait_until(lambda: self.left() == [pid], "nothing else runs")
            self.must(command, "-t", pid)
        self.assert_ended(pid)
        self.assertEqual(self.kept(), [])
        self.assert_restores(pid, "2")


class Restore(InterruptedCase):
    def test_leaves_no_process(self):
        pid = self.begin()
        self.must("dump", "-t", pid, "-D", "1")
        self.assert_ended(pid)
        for number, options in ((signal.SIGINT, []), (signal.SIGTERM, ["-d"]), (signal.SIGHUP, ["-n"])):
            count = len(self.lines())
            restore = self.command("restore", "-D", "1", *options)
            self.stop_when(lambda: any(self.memory(other) > SIZE / 16 for other in others()), restore.pid)
            self.assertLess(max(self.memory(other) for other in others()), SIZE, "that was too late")
            os.kill(restore.pid, number)
            os.kill(restore.pid, signal.SIGCONT)
            self.assertEqual(restore.wait(WITHIN), -number)
            wait_until(lambda: not self.left(), "nothing runs")
            self.assertEqual(len(self.lines()), count, "it has never run")
        self.assert_restores(pid, "1")
        self.assertEqual(self.digits(), "0")

    @staticmethod
    def memory(pid: int) -> int:
        try:
            return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
        except (FileNotFoundError, ProcessLookupError):
            return 0


if __name__ == "__main__":
    main()
