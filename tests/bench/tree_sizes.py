"""Idle trees of several sizes, dumped and restored by CRIU and by us in turn: how long they were frozen and how long the restore
took, for each task, and what each further task costs."""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "tests" / "bench"), str(REPOSITORY / "tests" / "support")]

import beside_criu  # noqa: E402

PROCESSES = [(1, 1), (10, 1), (100, 1)]  # and the threads of each
THREADS = [(1, 1), (1, 100), (1, 1000)]
SIZES = PROCESSES + THREADS[1:]
WHAT = ("frozen", "restore")
MOST_OF_CRIU = 0.5
FLAT = 1.5  # the most that each of the many further tasks may cost of what each of the first few does


class Tree:
    """In a session of its own; restored, all of it is beneath this process."""

    def __init__(self, build: Path, processes: int, threads: int):
        self._size = processes, threads
        with tempfile.TemporaryDirectory(prefix="godwit-bench-") as directory:
            said = Path(directory) / "pid"
            child = subprocess.Popen([build / "bench" / "idle_tree", said, str(processes), str(threads)], cwd="/",
                                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                     start_new_session=True)
            self.pid = child.pid
            child.returncode = 0  # reaped here, not by Popen: the restored process is another child with the same PID
            self._children: list[int] = []
            deadline = time.monotonic() + 20
            while not said.exists():
                if time.monotonic() > deadline:
                    self.kill()
                    raise RuntimeError("the tree did not come up")
                time.sleep(0.01)
        self._children = self._find_children()

    def _find_children(self) -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def check(self) -> None:
        """It is all there."""
        processes, threads = self._size
        found = [len(os.listdir(f"/proc/{pid}/task")) for pid in (self.pid, *self._find_children())]
        if found != [threads] * processes:
            raise RuntimeError(f"of {processes} processes with {threads} threads each, {found} are there")

    def wait_gone(self) -> None:
        for pid in (self.pid, *self._children):  # the others come to us when the first one has ended
            os.waitpid(pid, 0)

    def kill(self) -> None:
        """What there is of it: after a restore that has failed, nothing."""
        for pid in (self.pid, *self._children):
            try:
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # whether it is ours
            except ChildProcessError:
                continue
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _measure_size(build: Path, size: tuple[int, int], repeat: int, both: list[beside_criu.Tool]) -> dict:
    runs: dict[str, list[dict[str, float]]] = {tool.name: [] for tool in both}
    tree = Tree(build, *size)
    try:
        tree.check()
        for _ in range(repeat):
            for tool in both:
                with tempfile.TemporaryDirectory(prefix="godwit-bench-", dir="/dev/shm") as images:
                    one = tool.dump(tree, Path(images))
                    one["restore"] = tool.restore(Path(images))
                tree.check()
                runs[tool.name].append(one)
    finally:
        tree.kill()
    return {"processes": size[0], "threads": size[1],
            **{name: {what: statistics.median(one[what] for one in all) for what in WHAT} for name, all in runs.items()}}


def measure(build: Path, suite: str, repeat: int) -> list[dict]:
    beside_criu.prepare(suite)
    both = beside_criu.tools(build, suite)
    return [_measure_size(build, size, repeat, both) for size in SIZES]


def _of(results: list[dict], size: tuple[int, int]) -> dict:
    return next(one for one in results if (one["processes"], one["threads"]) == size)


def _further(results: list[dict], fewer: tuple[int, int], more: tuple[int, int], who: str, what: str) -> float:
    """What each task costs that the one has more than the other."""
    took = _of(results, more)[who][what] - _of(results, fewer)[who][what]
    return took / (more[0] * more[1] - fewer[0] * fewer[1])


def show(results: list[dict]) -> bool:
    """Whether the promises hold."""
    fine = True
    print(f"{'processes':>9}{'threads':>9}  {'':<9}{'CRIU':>11}{'Godwit':>11}{'per task':>11}{'ratio':>8}")
    for one in results:
        for what in WHAT:
            criu, ours = one["criu"][what], one["godwit"][what]
            missed = ours > MOST_OF_CRIU * criu
            fine = fine and not missed
            print(f"{one['processes']:>9}{one['threads']:>9}  {what:<9}{criu * 1e3:>8.1f} ms{ours * 1e3:>8.1f} ms"
                  f"{ours / (one['processes'] * one['threads']) * 1e6:>8.0f} us{ours / criu:>8.2f}"
                  f"{f'   more than {MOST_OF_CRIU}' if missed else ''}")
    for name, (few, some, many) in (("process", PROCESSES), ("thread", THREADS)):
        for what in WHAT:
            first, then = (_further(results, *pair, "godwit", what) for pair in ((few, some), (some, many)))
            criu = _further(results, some, many, "criu", what)
            flat = then <= FLAT * first
            fine = fine and flat
            print(f"{'ok  ' if flat else 'NOT '} each further {name}, {what}: {first * 1e6:.0f} us, then {then * 1e6:.0f} us"
                  f" (at most {FLAT} times as much); CRIU {criu * 1e6:.0f} us")
    return fine
