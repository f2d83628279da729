#!/usr/bin/python3
"""A python3 under load: one step a millisecond, its number appended to `trace` in the directory given. When `verify` appears
there it checks every byte that it has and writes `result`."""

import bz2  # noqa: F401  (libraries of which a destination may have none)
import lzma  # noqa: F401
import os
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

import steps  # noqa: E402


def main() -> None:
    home = sys.argv[1]
    values = [b""] * steps.PLACES
    trace = os.open(f"{home}/trace", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    now = -1
    while True:
        now += 1
        values[steps.place(now)] = steps.pattern(now)
        os.write(trace, b"%d\n" % now)
        if now < steps.PLACES:
            continue  # fill the memory first
        if os.path.exists(f"{home}/verify"):
            with open(f"{home}/draft", "w") as file:
                file.write(steps.check(values, now) or "pass")
            os.rename(f"{home}/draft", f"{home}/result")
            os.unlink(f"{home}/verify")
        time.sleep(0.001)


main()
