#!/usr/bin/python3
"""A process and two children, each of which counts into a file of its own in the directory given."""

import os
import sys
import time

home = sys.argv[1]
name = "root"
for child in ("first", "second"):
    if os.fork() == 0:
        name = child
        break
with open(f"{home}/{name}.pid", "w") as file:
    file.write(str(os.getpid()))
n = 0
while True:
    n += 1
    with open(f"{home}/{name}.draft", "w") as file:
        file.write(str(n))
    os.rename(f"{home}/{name}.draft", f"{home}/{name}")
    time.sleep(0.005)
