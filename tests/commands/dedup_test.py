#!/usr/bin/python3
"""Deduplication while a dump is written: at no moment do the images take much more than one copy of the memory."""

import subprocess
import threading
import time
from pathlib import Path

from command_case import GODWIT, CommandCase, main, wait_until
from page_streams import PageServer

MIB = 1 << 20
SIZE = 192 * MIB
# In flight: a few buffers, and what else the process has.
MORE = 24 * MIB

# Writes all of its memory anew when it is told to, and counts aloud.
WRITER = """
import os, sys, time
size, go = {size}, "{go}"
memory = bytearray(size)
n = 0
def write(round):
    block = os.urandom(1 << 20)
    for at in range(0, size, 1 << 20):
        memory[at:at + (1 << 20)] = block
write(0)
while True:
    print(n, flush=True)
    n += 1
    if os.path.exists(go):
        write(n)
        os.unlink(go)
    time.sleep(0.005)
"""


class Blocks:
    """What page files take, looked at all the time by a thread of its own."""

    def __init__(self, *directories: Path):
        self.directories = directories
        self.samples: list[tuple[int, int]] = []  # of all, and of the last one

    def now(self) -> tuple[int, int]:
        each = [sum(file.stat().st_blocks * 512 for file in directory.glob("pages-*")) for directory in self.directories]
        return sum(each), each[-1]

    def __enter__(self) -> "Blocks":
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def look(self) -> None:
        while not self.over.is_set():
            try:
                self.samples.append(self.now())
            except FileNotFoundError:
                pass
            time.sleep(0.0005)

    def __exit__(self, *_) -> None:
        self.over.set()
        self.thread.join()


class Dedup(CommandCase):
    def begin(self) -> int:
        self.go = self.place / "go"
        return self.start(WRITER.format(size=SIZE, go=self.go))

    def write_all(self) -> None:
        self.go.touch()
        wait_until(lambda: not self.go.exists(), "it writes everything")

    def assert_near_one_copy(self, blocks: Blocks, whole: int, copies: int = 1) -> None:
        written = blocks.now()[1]
        during = [sample for sample in blocks.samples if 0 < sample[1] < written]
        most = max(all_of_them for all_of_them, _ in during)
        print(f"{len(during)} samples during the dump, at most {most / MIB:.0f} MiB, one copy is {whole / MIB:.0f}")
        self.assertGreater(len(during), 5, "too little was seen of it")
        self.assertGreater(whole, SIZE)
        if copies == 1:
            self.assertLess(most, whole + MORE)
        else:
            self.assertGreater(most, 1.5 * SIZE)

    def in_a_directory(self, *options: str, copies: int) -> None:
        pid = self.begin()
        one, two = self.place / "1", self.place / "2"
        self.must("dump", "-t", pid, "-D", one, "-R", "--track-mem")
        whole = Blocks(one).now()[0]
        self.write_all()
        with Blocks(one, two) as blocks:
            said = self.must("dump", "-t", pid, "-D", two, "-R", "--track-mem", "--prev-images-dir", "../1", *options)
        self.assertNotIn("dump.whole", said)
        self.assert_near_one_copy(blocks, whole, copies)

    def test_a_dump_stays_near_one_copy(self):
        self.in_a_directory("--auto-dedup", copies=1)

    def test_without_it_there_are_two(self):
        self.in_a_directory(copies=2)

    def test_a_page_server_stays_near_one_copy(self):
        pid = self.begin()
        pages = [self.place / "pages" / name for name in ("1", "2")]
        pages[0].parent.mkdir()
        with PageServer([GODWIT], pages[0], []) as server:
            self.must("pre-dump", "-t", pid, "-D", "1", *server.client_options(), program=GODWIT)
            self.assertEqual(server.wait(), 0, server.said())
        whole = Blocks(pages[0]).now()[0]
        self.write_all()
        with PageServer([GODWIT], pages[1], ["--prev-images-dir", "../1", "--auto-dedup"]) as server, Blocks(*pages) as blocks:
            said = self.must("dump", "-t", pid, "-D", "2", "-R", "--prev-images-dir", "../1", *server.client_options(),
                             program=GODWIT)
            self.assertEqual(server.wait(), 0, server.said())
        self.assertNotIn("dump.whole", said)
        self.assert_near_one_copy(blocks, whole)

    def test_a_page_server_that_fails_names_what_it_has_freed_from(self):
        pid = self.begin()
        pages = [self.place / "pages" / name for name in ("1", "2")]
        pages[1].mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16M", "tmpfs", pages[1]], check=True)
        self.addCleanup(subprocess.run, ["umount", pages[1]], check=True)
        with PageServer([GODWIT], pages[0], []) as server:
            self.must("pre-dump", "-t", pid, "-D", "1", *server.client_options(), program=GODWIT)
            self.assertEqual(server.wait(), 0, server.said())
        self.write_all()
        with PageServer([GODWIT], pages[1], ["--prev-images-dir", "../1", "--auto-dedup"]) as server:
            done = self.run_command("dump", "-t", pid, "-D", "2", "-R", "--prev-images-dir", "../1",
                                    *server.client_options(), program=GODWIT)
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertEqual(server.wait(), 1)
        self.assertIn(f"page-server.parents_unusable directories={pages[0]} ", server.said())
        self.assert_runs_on(pid)


if __name__ == "__main__":
    main()
