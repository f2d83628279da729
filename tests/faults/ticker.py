#!/usr/bin/python3
"""A process that notices what is done to it: ticks every two milliseconds and remembers the longest gap, and how often its
handler of SIGCONT ran. Gives up its controlling terminal, with which it could not be moved.

  ticker.py REPORT [FILE]      keeps FILE open; the report is rewritten, in place, five times a second
"""

import fcntl
import os
import signal
import sys
import termios
import time

continued = 0


def on_continue(*_):
    global continued
    continued += 1


def leave_terminal() -> None:
    try:
        terminal = os.open("/dev/tty", os.O_RDWR)
    except OSError:
        return
    fcntl.ioctl(terminal, termios.TIOCNOTTY)
    os.close(terminal)


def main() -> None:
    leave_terminal()
    signal.signal(signal.SIGCONT, on_continue)
    # One block, so that a reader never sees half a report; opened here, since the next host must find the same file.
    report = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o644)
    kept = [open(path, "rb") for path in sys.argv[2:]]
    ticks, longest, told = 0, 0.0, 0.0
    last = time.monotonic()
    while kept is not None:
        time.sleep(0.002)
        now = time.monotonic()
        longest = max(longest, now - last)
        last = now
        ticks += 1
        if now - told > 0.2:
            told = now
            os.pwrite(report, f"{ticks} {longest * 1000:.1f} {continued}\n".ljust(80).encode(), 0)


if __name__ == "__main__":
    main()
