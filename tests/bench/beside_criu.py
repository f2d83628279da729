"""Dump into a directory and restore, by CRIU and by us: what the benchmarks that have both in turn share."""

import ctypes
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

import page_stream

REPOSITORY = Path(__file__).resolve().parents[2]
COMPAT = REPOSITORY / "tests" / "compat"
PR_SET_CHILD_SUBREAPER = 36
CLONE_NEWNS, MS_REC_PRIVATE = 0x20000, (1 << 14) | (1 << 18)


class Running(Protocol):
    pid: int


class Target(Running, Protocol):
    """What is dumped and restored; restored, it is a child of this process."""

    def wait_gone(self) -> None: ...


def run(*command: object) -> None:
    """A program that must succeed."""
    done = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit status {done.returncode}: {done.stderr.strip()[-2000:]}")


class Tool:
    """Either program: both have the same command line and write the same statistics."""

    def __init__(self, name: str, command: list[object], streams: list[object], suite: str):
        self.name, self._command, self._suite = name, command, suite
        self._streams = list(map(str, streams))  # the command that dumps to page servers, and that is one

    def dump(self, target: Target, images: Path) -> dict[str, float]:
        began = time.monotonic()
        run(*self._command, "dump", "-t", target.pid, "-D", images, "-o", "dump.log")
        target.wait_gone()  # until then there can be no restore
        took = time.monotonic() - began
        return {"dump": took, "frozen": page_stream.frozen_in(images, self._suite)}

    def restore(self, images: Path) -> float:
        began = time.monotonic()
        run(*self._command, "restore", "-d", "-D", images, "-o", "restore.log")
        return time.monotonic() - began

    def stream(self, target: Running, top: Path, secured: list[str]) -> dict[str, float]:
        return page_stream.measure(self._streams, target.pid, top, secured, self._suite)


def tools(build: Path, suite: str) -> list[Tool]:
    words = subprocess.run([COMPAT / "criu", "--words", suite], check=True, capture_output=True, text=True).stdout
    criu, binaries = words.splitlines(), build / "bin"
    return [Tool("criu", criu, criu, suite),
            Tool("godwit", [binaries / "godwit-engine"], [binaries / "godwit"], suite)]


def _give_criu_a_cache() -> None:
    """CRIU keeps what it has found out about the kernel in /run, when that is a tmpfs; without, it asks again each time."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None) or \
            libc.mount(b"run", b"/run", b"tmpfs", 0, None):
        raise OSError(ctypes.get_errno(), "cannot give CRIU a tmpfs at /run")


def adopt_what_is_restored() -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def prepare(suite: str) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # being stopped from outside must clean up as well
    subprocess.run([COMPAT / "peers", suite], check=True, stdout=subprocess.DEVNULL)
    _give_criu_a_cache()
    adopt_what_is_restored()
