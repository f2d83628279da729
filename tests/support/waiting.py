"""Waiting for what a test has asked for."""

import time

WITHIN = 60  # seconds


def wait_until(condition, what: str, seconds: float = WITHIN):
    """The first true value of `condition`."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.01)
    return found
