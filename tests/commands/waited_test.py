#!/usr/bin/python3
"""A restore that waits ends as the process does."""

import os
import signal
import subprocess

from command_case import WITHIN, CommandCase, main, others, wait_until

# Counts aloud, and ends with the number that it finds in a file.
PROGRAM = """
import os, time
n = 0
while not os.path.exists("{place}/end"):
    print(n, flush=True)
    n += 1
    time.sleep(0.005)
os._exit(int(open("{place}/end").read()))
"""


class Waited(CommandCase):
    def restore(self, pid: int, *options: str) -> subprocess.Popen:
        before = len(self.lines())
        command = self.begin_command("restore", "-D", "1", *options)
        wait_until(lambda: len(self.lines()) > before + 5, "it runs")
        self.assertIsNone(command.poll(), "the command waits")
        return command

    def end_with(self, status: int) -> None:
        (self.place / "draft").write_text(str(status))
        (self.place / "draft").rename(self.place / "end")

    def test_its_exit_status_is_passed_on(self):
        pid = self.start(PROGRAM.format(place=self.place))
        self.must("dump", "-t", pid, "-D", "1")
        self.assert_ended(pid)
        for options in ([], ["-n"]):
            for status in (7, 0):
                command = self.restore(pid, *options)
                self.end_with(status)
                said = command.communicate(timeout=WITHIN)[0]
                self.assertEqual(command.returncode, status, (options, said))
                (self.place / "end").unlink()
                self.assertEqual(self.left(), [], "godwit-init neither")

    def test_a_signal_that_ends_it_is_passed_on_as_a_shell_does(self):
        pid = self.start(PROGRAM.format(place=self.place))
        self.must("dump", "-t", pid, "-D", "1")
        self.assert_ended(pid)
        for options in ([], ["-n"]):
            command = self.restore(pid, *options)
            victim, = (other for other in others() if b"time.sleep" in self.words(other))
            os.kill(victim, signal.SIGKILL)
            said = command.communicate(timeout=WITHIN)[0]
            self.assertEqual(command.returncode, 128 + signal.SIGKILL, (options, said))
            self.assertEqual(self.left(), [])

    @staticmethod
    def words(pid: int) -> bytes:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()


if __name__ == "__main__":
    main()
