#!/usr/bin/python3
"""An interactive bash in a terminal: what comes on standard input is typed, what the terminal shows goes to a file.

  terminal.py SCREEN
"""

import os
import pty
import select
import sys

child, terminal = pty.fork()
if child == 0:
    os.execve("/bin/bash", ["bash", "--norc", "--noprofile", "-i"], {**os.environ, "PS1": "prompt> "})
with open(sys.argv[1], "ab", buffering=0) as screen:
    sources = [terminal, sys.stdin.fileno()]
    while sources:
        for ready in select.select(sources, [], [])[0]:
            try:
                data = os.read(ready, 4096)
            except OSError:  # the terminal's other end is gone
                data = b""
            if not data:
                sources = [] if ready == terminal else [terminal]
                os.close(terminal) if ready != terminal else None
                break
            if ready == terminal:
                screen.write(data)
            else:
                os.write(terminal, data)
        if terminal not in sources or sys.stdin.fileno() not in sources:
            break
