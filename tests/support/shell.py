"""An interactive shell on a terminal, and a program that says what it has of it."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

WITHIN = 10  # seconds, for what is expected

# Evaluates what it reads. SIGINT does not end it.
JOB = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGINT, lambda *_: print("interrupted", flush=True))
signal.signal(signal.SIGWINCH, lambda *_: print("resized", flush=True))
def settings(): return termios.tcgetattr(0)
def be_silent():
    changed = settings()
    changed[3] &= ~termios.ECHO
    changed[6][termios.VEOL] = b"!"
    termios.tcsetattr(0, termios.TCSANOW, changed)
    return settings()
def where(fd=0):
    return f"{os.getsid(0)} {os.getpgrp()} {os.tcgetpgrp(fd)} {os.ttyname(0)} {os.get_terminal_size(0).lines}"
print("job", os.getpid(), flush=True)
for line in sys.stdin:
    try:
        print("=", eval(line), flush=True)
    except Exception as error:
        print("=", error, flush=True)
"""


def waits_in_read(pid: int) -> bool:
    with open(f"/proc/{pid}/syscall") as file:
        return file.read().startswith("0 0x0 ")  # read(0)


class Shell:
    """A bash on a terminal of so many lines."""

    def __init__(self, lines: int):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.closerange(3, 256)
            os.execve("/bin/bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"],
                      {"PATH": os.environ["PATH"], "PS1": "prompt> ", "TERM": "dumb", "HISTFILE": ""})
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, 70, 0, 0))
        self.seen = ""
        self.expect("prompt> ")
        self.name = os.readlink(f"/proc/{self.pid}/fd/0")

    def end(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.close(self.terminal)
        os.waitpid(self.pid, 0)

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def run(self, command: str) -> None:
        self.type(command + "\n")

    def read(self, seconds: float) -> None:
        if select.select([self.terminal], [], [], seconds)[0]:
            self.seen += os.read(self.terminal, 4096).decode(errors="replace")

    def expect(self, pattern: str) -> re.Match:
        """What comes and matches; with it goes what came before."""
        end = time.monotonic() + WITHIN
        while not (found := re.search(pattern, self.seen)):
            if time.monotonic() > end:
                raise AssertionError(f"no {pattern!r} in {self.seen!r}")
            self.read(0.1)
        self.seen = self.seen[found.end():]
        return found

    def quiet(self, seconds: float) -> str:
        """All that has come and was not expected."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.read(0.05)
        return self.seen

    def begin(self, command: str) -> int:
        """The PID that a job says."""
        self.run(command)
        return int(self.expect(r"job (\d+)\r")[1])

    def ask(self, question: str) -> str:
        """The job in the foreground. What a shell that was slow has still to say stands before the answer."""
        self.run(question)
        return self.expect(r"(?m)^(?:prompt> )?= (.*)\r\n")[1]

    def interrupt(self, pid: int) -> str:
        """Ctrl-C, for a job in the foreground that waits in its read: a signal just before that is told after it only. What came
        until the job has told it."""
        end = time.monotonic() + WITHIN
        while not waits_in_read(pid):
            if time.monotonic() > end:
                raise AssertionError(f"process {pid} does not read")
            time.sleep(0.005)
        self.type("\x03")
        return self.expect("(?s).*interrupted")[0]

    def settings(self) -> list:
        return termios.tcgetattr(self.terminal)
