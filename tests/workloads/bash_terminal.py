"""Checks: an interactive bash on a pseudo terminal, whose master this program holds: a job in the background, a stopped one,
a pipeline in the foreground, a line that is being typed."""

import os
import re
import select
import signal
import sys
import time

HOME = sys.argv[1]


def put(name, text):
    with open(f"{HOME}/{name}.draft", "w") as file:
        file.write(text)
    os.rename(f"{HOME}/{name}.draft", f"{HOME}/{name}")


def start():
    master, slave = os.openpty()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.close(os.open(os.ttyname(slave), os.O_RDWR))
        for number in range(3):
            os.dup2(slave, number)
        os.closerange(3, 256)
        os.environ.update(PS1="$ ", HISTFILE="", TERM="dumb")
        os.execv("/bin/bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"])
    os.close(slave)
    return master, pid


class Terminal:
    def __init__(self, master):
        self.master, self.seen = master, ""

    def type(self, text):
        os.write(self.master, text.encode())

    def expect(self, pattern):
        """What comes until then."""
        end = time.time() + 10
        while not (found := re.search(pattern, self.seen)):
            if time.time() > end or not select.select([self.master], [], [], 1)[0] and time.time() > end:
                raise AssertionError(f"no {pattern!r} in {self.seen!r}")
            if select.select([self.master], [], [], 0)[0]:
                self.seen += os.read(self.master, 4096).decode()
        before, self.seen = self.seen[:found.end()], self.seen[found.end():]
        return before


def verify(terminal):
    terminal.type("ed\n")  # the end of the line that the pipeline reads
    terminal.expect("got: typed")
    terminal.type("\x03")
    terminal.expect(r"\$ $")
    terminal.type("jobs; echo $((6 * 7))\n")
    listed = terminal.expect("\n42\r")
    for wanted in ("Running +sleep 1000", "Stopped +sleep 2000"):
        if not re.search(wanted, listed):
            raise AssertionError(f"no {wanted!r} in {listed!r}")
    terminal.type("fg %2\n")
    terminal.expect("sleep 2000\r\n")
    time.sleep(0.3)
    terminal.type("\x1a")
    terminal.expect("Stopped")
    # One that was stopped may not be known to be dead yet: then the shell wants to hear it twice.
    terminal.type("kill -KILL %1 %2; wait; exit 7; exit 7\n")


def main():
    master, shell = start()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    terminal = Terminal(master)
    terminal.expect(r"\$ ")
    terminal.type("sleep 1000 &\n")
    terminal.expect(r"\$ $")
    terminal.type("sleep 2000\n")
    time.sleep(0.5)
    terminal.type("\x1a")
    terminal.expect("Stopped")
    terminal.type("while read line; do echo got: $line; done | cat\n")
    time.sleep(0.5)
    terminal.type("typ")
    time.sleep(0.2)
    put("ready", f"{os.getpid()}\n")
    while not os.path.exists(f"{HOME}/verify"):
        time.sleep(0.01)
    try:
        verify(terminal)
        status = os.waitpid(shell, 0)[1]
        result = "pass" if status == 7 << 8 else f"fail: the shell ended with {status:#x}"
    except (AssertionError, OSError) as error:
        os.kill(shell, signal.SIGKILL)
        result = f"fail: {error}"
    put("result", result + "\n")
    return result != "pass"


sys.exit(main())
