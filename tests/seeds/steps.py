"""What both workloads do, so that any moment of them can be checked byte by byte: step n writes pattern(n) into place
n * 7919 mod PLACES, and nothing else ever writes there. So the state after step n is known from n alone."""

import hashlib

PLACES = 8192
MULTIPLIER = 7919
SIZE = 4000  # bytes of a value: a page, nearly, so that places do not share all their pages


def place(step: int) -> int:
    return step * MULTIPLIER % PLACES


def pattern(step: int) -> bytes:
    digest = hashlib.blake2b(b"%d" % step, digest_size=50).hexdigest().encode()
    return (b"%d:" % step + digest * (SIZE // len(digest) + 1))[:SIZE]


def last_step(index: int, now: int) -> int:
    """The last step up to `now` that wrote there; negative when there was none."""
    first = index * pow(MULTIPLIER, -1, PLACES) % PLACES
    return first + (now - first) // PLACES * PLACES if now >= first else -1


def check(values: list[bytes], now: int) -> str:
    """What is wrong with the state after step `now`; empty when it is right."""
    for index, value in enumerate(values):
        step = last_step(index, now)
        if value != (pattern(step) if step >= 0 else b""):
            return f"place {index} holds {value[:40]!r}, not what step {step} wrote (now {now})"
    return ""
