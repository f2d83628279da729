#!/usr/bin/python3
"""Starts a command and reports every change that waitpid(WUNTRACED | WCONTINUED) shows: S stopped, C continued, E ended.

  waiting_parent.py REPORT COMMAND...
"""

import os
import sys

pid = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
with open(sys.argv[1], "a") as report:
    ended = False
    while not ended:
        _, status = os.waitpid(pid, os.WUNTRACED | os.WCONTINUED)
        ended = not os.WIFSTOPPED(status) and not os.WIFCONTINUED(status)
        report.write("E" if ended else "S" if os.WIFSTOPPED(status) else "C")
        report.flush()
