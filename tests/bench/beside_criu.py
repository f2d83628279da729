"""Dump into a directory and restore, by CRIU and by us: what the benchmarks that have both in turn share."""

import ctypes
import os
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


def spawn(directory: Path, *command: object) -> float:
    """Seconds that a program takes, which must succeed. Nothing of this process is in it but a vfork: with pipes to read from, and
    what Python does about them, more passes than a short command needs."""
    words, said = list(map(str, command)), directory / "said"
    streams = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
               (os.POSIX_SPAWN_OPEN, 1, str(said), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), (os.POSIX_SPAWN_DUP2, 1, 2)]
    began = time.monotonic()
    _, status = os.waitpid(os.posix_spawn(words[0], words, os.environ, file_actions=streams), 0)
    took = time.monotonic() - began
    if status:
        raise RuntimeError(f"{' '.join(words)}: wait status {status}: {said.read_text()[-2000:]}")
    said.unlink()
    return took


class Tool:
    """Either program: both have the same command line and write the same statistics. `frozen`: those that together say how long the
    process stood still. CRIU's frozen_time begins when all have stopped, ours when the first one is asked to."""

    def __init__(self, name: str, command: list[object], streams: list[object], suite: str, frozen: list[str]):
        self.name, self._command, self._suite, self._frozen = name, command, suite, frozen
        self._streams = list(map(str, streams))  # the command that dumps to page servers, and that is one

    def dump(self, target: Target, images: Path) -> dict[str, float]:
        began = time.monotonic()
        spawn(images, *self._command, "dump", "-t", target.pid, "-D", images, "-o", "dump.log")
        target.wait_gone()  # until then there can be no restore
        took = time.monotonic() - began
        return {"dump": took, "frozen": page_stream.frozen_in(images, self._suite, self._frozen)}

    def restore(self, images: Path) -> float:
        return spawn(images, *self._command, "restore", "-d", "-D", images, "-o", "restore.log")

    def stream(self, target: Running, top: Path, secured: list[str]) -> dict[str, float]:
        return page_stream.measure(self._streams, target.pid, top, secured, self._suite, self._frozen)


def tools(build: Path, suite: str) -> list[Tool]:
    words = subprocess.run([COMPAT / "criu", "--words", suite], check=True, capture_output=True, text=True).stdout
    criu, binaries = words.splitlines(), build / "bin"
    return [Tool("criu", criu, criu, suite, ["freezing_time", "frozen_time"]),
            Tool("godwit", [binaries / "godwit-engine"], [binaries / "godwit"], suite, ["frozen_time"])]


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
