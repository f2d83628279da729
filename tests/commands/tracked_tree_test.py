#!/usr/bin/python3
"""Tracked dumps of a tree whose members come, go and run other programs between them: each dump has them as they are, and a
restore of any of them goes on where that one was."""

import os
import signal
import time
from pathlib import Path

from command_case import CommandCase, main, others, wait_until

# The root and its children count in memory of their own, page by page, and look at all of it again and again: each page
# says what was counted there last. On SIGUSR1 the root ends its first child and makes another one, with its PID or with a new
# one; on SIGUSR2 its last child runs this program anew.
TREE = """
import array, os, signal, sys, time
PAGES, PAGE = 512, 4096

def count(name):
    memory = bytearray(PAGES * PAGE)
    said = array.array("q", [-1] * PAGES)
    for p in range(PAGES):
        memory[p * PAGE:p * PAGE + 8] = (-1).to_bytes(8, "little", signed=True)
    n = 0
    while True:
        p = n * 7 % PAGES
        memory[p * PAGE:p * PAGE + 8] = n.to_bytes(8, "little", signed=True)
        said[p] = n
        if n % 16 == 0:
            for p in range(PAGES):
                if int.from_bytes(memory[p * PAGE:p * PAGE + 8], "little", signed=True) != said[p]:
                    os.write(1, f"{name} WRONG\\n".encode())
        os.write(1, f"{name} {n}\\n".encode())
        n += 1
        yield
        time.sleep(0.004)

def run(name):
    def again(*_):
        os.execv("/usr/bin/python3", ["python3", "-c", PROGRAM, name + "x"])
    signal.signal(signal.SIGUSR2, again)
    for _ in count(name):
        pass

def born(name):
    pid = os.fork()
    if pid == 0:
        run(name)
    return pid

PROGRAM = open("/proc/self/cmdline").read().split("\\0")[2]
if len(sys.argv) > 1:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])
    run(sys.argv[1])
children = [born("a"), born("b")]
asked = []
signal.signal(signal.SIGUSR1, lambda *_: asked.append(1))
signal.signal(signal.SIGUSR2, lambda *_: os.kill(children[-1], signal.SIGUSR2))
for _ in count("root"):
    if asked:
        asked.clear()
        gone = children.pop(0)
        os.kill(gone, signal.SIGKILL)
        os.waitpid(gone, 0)
        if USED_AGAIN:
            open("/proc/sys/kernel/ns_last_pid", "w").write(str(gone - 1))
        children.append(born("c"))
"""
OTHER_PIDS, SAME_PIDS = (TREE.replace("USED_AGAIN", word) for word in ("False", "True"))
PAUSE_S = 0.3


class TrackedTree(CommandCase):
    def said(self) -> list[tuple[str, int]]:
        """By whom, and what."""
        said = []
        for line in self.lines():
            name, _, n = line.partition(" ")
            self.assertNotEqual(n, "WRONG", f"{name} has pages of another moment")
            said.append((name, int(n)))
        return said

    def last(self) -> dict[str, int]:
        """What each of them has said last."""
        return dict(self.said())

    def says_more(self, names: set[str]) -> None:
        before = self.last()
        wait_until(lambda: all(self.last().get(name, -1) > before.get(name, -1) + 20 for name in names), f"{names} count")

    def reap(self) -> None:
        def none_left() -> bool:
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass
            return not others()
        wait_until(none_left, "all of it has ended")

    def restore_and_end(self, root: int, images: str, names: set[str], gone: set[str]) -> None:
        """Each of them goes on from where it was, or from before; nobody else does."""
        furthest: dict[str, int] = {}
        before = self.said()
        for name, n in before:
            furthest[name] = max(n, furthest.get(name, 0))
        self.must("restore", "-d", "-D", images)
        time.sleep(PAUSE_S)
        first: dict[str, int] = {}
        for name, n in self.said()[len(before):]:
            first.setdefault(name, n)
        self.assertEqual(set(first), names, f"in {images}")
        for name, n in first.items():
            self.assertLessEqual(n, furthest[name] + 1, f"{name} has left something out")
            self.assertGreater(n, 0, f"{name} has begun anew")
        self.assertFalse(set(first) & gone)
        os.kill(root, signal.SIGKILL)
        self.end_all()

    def test_members_that_come_go_and_run_another_program(self):
        root = self.start(OTHER_PIDS)
        self.says_more({"root", "a", "b"})
        for images in "1234":
            (self.place / images).mkdir()
        tracked = ("dump", "-t", root, "--leave-running", "--track-mem")
        self.must(*tracked, "-D", "1")
        self.says_more({"root", "a", "b"})
        os.kill(root, signal.SIGUSR1)
        self.says_more({"root", "b", "c"})
        self.must(*tracked, "-D", "2", "--prev-images-dir", "../1")
        self.says_more({"root", "b", "c"})
        os.kill(root, signal.SIGUSR2)
        self.says_more({"root", "b", "cx"})
        self.must(*tracked, "-D", "3", "--prev-images-dir", "../2")
        self.says_more({"root", "b", "cx"})
        self.must("dump", "-t", root, "-D", "4", "--prev-images-dir", "../3")
        self.reap()
        self.restore_and_end(root, "4", {"root", "b", "cx"}, {"a", "c"})
        self.restore_and_end(root, "2", {"root", "b", "c"}, {"a", "cx"})
        self.restore_and_end(root, "3", {"root", "b", "cx"}, {"a", "c"})
        self.restore_and_end(root, "1", {"root", "a", "b"}, {"c", "cx"})

    def test_a_member_that_has_the_pid_of_another_one(self):
        """And its addresses, and its parent."""
        root = self.start(SAME_PIDS)
        self.says_more({"root", "a", "b"})
        tracked = ("dump", "-t", root, "--leave-running", "--track-mem")
        self.must(*tracked, "-D", "1")
        members = self.children(root)
        os.kill(root, signal.SIGUSR1)
        self.says_more({"root", "b", "c"})
        self.assertEqual(self.children(root), members)
        said = self.must(*tracked, "-D", "2", "--prev-images-dir", "../1")
        self.assertNotIn("dump.whole", said)
        self.says_more({"root", "b", "c"})
        self.must("dump", "-t", root, "-D", "3", "--prev-images-dir", "../2")
        self.reap()
        self.restore_and_end(root, "3", {"root", "b", "c"}, {"a"})
        self.restore_and_end(root, "2", {"root", "b", "c"}, {"a"})
        self.restore_and_end(root, "1", {"root", "a", "b"}, {"c"})

    @staticmethod
    def children(pid: int) -> set[int]:
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


if __name__ == "__main__":
    main()
