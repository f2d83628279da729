"""The processes of the golden images, and namespaces in which its PID and its paths are free on any machine."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
GOLDEN = HERE / "golden"
HOME = Path("/mnt/godwit-golden")
PID = 77
WITHIN = 20
INSIDE = "--inside"
COUNTER, CHAIN = "counter", "chain"


def run(*command: object, **more) -> str:
    """What a program says, which must succeed."""
    done = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, **more)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout[-8000:]}")
    return done.stdout


def in_namespaces(*words: object, timeout: float = 120) -> str:
    """Runs this program once more with `words`, as the first process of a PID namespace, in a mount namespace."""
    return run("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", sys.argv[0], INSIDE, *words,
               timeout=timeout)


def make_home(program: str = COUNTER) -> None:
    """Inside: the place where the images' files are."""
    for place in ("/mnt", "/run"):
        run("mount", "-t", "tmpfs", "tmpfs", place)
    HOME.mkdir()
    shutil.copy(GOLDEN / program, HOME)


def wait_for(what: str, condition) -> None:
    end = time.monotonic() + WITHIN
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not within {WITHIN} s")
        time.sleep(0.01)


def program_of(images: Path) -> str:
    """The program of a set: WRITER, WRITER+PROGRAM, or WRITER+chain/NUMBER, dumps of the counter one on top of the other."""
    kind = images.relative_to(GOLDEN).parts[0].partition("+")[2]
    return COUNTER if kind in ("", CHAIN) else kind


def sets() -> list[Path]:
    return sorted(path.parent for path in GOLDEN.glob("**/inventory.img"))


def other_processes() -> list[int]:
    """Inside: every process but this one."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
