#!/usr/bin/python3
"""A process that writes into its memory all the time, page after page, and says so when a page is not as it left it.

  writer.py private|shared MEBIBYTES LOOPS CONTROL REPORT

LOOPS go by between two pages: what it writes depends on the CPU time that it gets. It rests while there is a file CONTROL.
REPORT has the pages written so far and the pages that were wrong, rewritten in place ten times a second. Both are on storage
that the hosts share.
"""

import fcntl
import mmap
import os
import sys
import termios
import time

PAGE = 4096


def leave_terminal() -> None:
    try:
        terminal = os.open("/dev/tty", os.O_RDWR)
    except OSError:
        return
    fcntl.ioctl(terminal, termios.TIOCNOTTY)
    os.close(terminal)


def main() -> None:
    kind, mebibytes, loops, control, path = sys.argv[1:]
    between = int(loops)
    leave_terminal()
    flags = mmap.MAP_ANONYMOUS | (mmap.MAP_SHARED if kind == "shared" else mmap.MAP_PRIVATE)
    memory = mmap.mmap(-1, int(mebibytes) << 20, flags)
    pages = len(memory) // PAGE
    report = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    written, wrong, told = 0, 0, 0.0
    # In each page the number of the write that was its last one: the page before last time round, or none.
    while True:
        at = written % pages * PAGE
        expected = written - pages if written >= pages else 0
        wrong += int.from_bytes(memory[at:at + 8], "little") != expected
        memory[at:at + 8] = written.to_bytes(8, "little")
        written += 1
        for _ in range(between):
            pass
        if written % 64:
            continue
        while os.path.exists(control):
            time.sleep(0.05)
            told = tell(report, written, wrong, 0.0)
        told = tell(report, written, wrong, told)


def tell(report: int, written: int, wrong: int, told: float) -> float:
    now = time.monotonic()
    if now - told < 0.1:
        return told
    os.pwrite(report, f"{written} {wrong}\n".ljust(80).encode(), 0)
    return now


if __name__ == "__main__":
    main()
