#!/usr/bin/python3
"""Deduplication while a dump is written: at no moment do the images take much more than one copy of the memory."""

import shutil
import subprocess
import threading
import time
from pathlib import Path

from command_case import GODWIT, WITHIN, main, wait_until
from filled import FilledCase
from page_files import page_blocks
from page_streams import PageServer

MIB = 1 << 20
SIZE = 192 * MIB
# In flight: a few buffers, and what else the process has.
MORE = 24 * MIB


class Blocks:
    """What page files take, looked at all the time by a thread of its own."""

    def __init__(self, *directories: Path):
        self.directories = directories
        self.samples: list[tuple[int, int]] = []  # of all, and of the last one

    def now(self) -> tuple[int, int]:
        each = [page_blocks(directory) for directory in self.directories]
        return sum(each), each[-1]

    def __enter__(self) -> "Blocks":
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def look(self) -> None:
        while not self.over.is_set():
            self.samples.append(self.now())
            time.sleep(0.0005)

    def __exit__(self, *_) -> None:
        self.over.set()
        self.thread.join()


class Dedup(FilledCase):
    size = SIZE

    def assert_near_one_copy(self, blocks: Blocks, whole: int, copies: int = 1) -> None:
        in_the_end = blocks.now()
        during = [sample for sample in blocks.samples if 0 < sample[1] < in_the_end[1]]
        most = max(all_of_them for all_of_them, _ in [*during, in_the_end])
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
        self.fill(1)
        with Blocks(one, two) as blocks:
            said = self.must("dump", "-t", pid, "-D", two, "-R", "--track-mem", "--prev-images-dir", "../1", *options)
        self.assertNotIn("dump.whole", said)
        self.assert_near_one_copy(blocks, whole, copies)

    def test_a_dump_stays_near_one_copy(self):
        self.in_a_directory("--auto-dedup", copies=1)

    def test_without_it_there_are_two(self):
        self.in_a_directory(copies=2)

    def test_a_page_server_waits_for_nobody_but_who_sends(self):
        """That is the holder, not the command, whose scripts may take as long as they like."""
        pid = self.begin()
        with PageServer([GODWIT], self.place / "pages", []) as server:
            script = self.script("for i in $(seq 100); do",
                                 f"  grep -q 'State:.Z' /proc/{server.process.pid}/status && exec touch {self.place}/ended",
                                 "  sleep 0.1", "done")
            self.must("dump", "-t", pid, "-D", "1", "--track-mem", "--leave-stopped", *server.client_options(),
                      "--action-script", script, program=GODWIT)
            self.assertEqual(server.wait(), 0)
        self.assertTrue((self.place / "ended").exists(), "the server had not ended when the script gave it up")

    def test_a_page_server_stays_near_one_copy(self):
        pid = self.begin()
        pages = [self.place / "pages" / name for name in ("1", "2")]
        pages[0].parent.mkdir()
        with PageServer([GODWIT], pages[0], []) as server:
            self.must("pre-dump", "-t", pid, "-D", "1", *server.client_options(), program=GODWIT)
            self.assertEqual(server.wait(), 0, server.said())
        whole = Blocks(pages[0]).now()[0]
        self.fill(1)
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
        self.fill(1)
        with PageServer([GODWIT], pages[1], ["--prev-images-dir", "../1", "--auto-dedup"]) as server:
            done = self.run_command("dump", "-t", pid, "-D", "2", "-R", "--prev-images-dir", "../1",
                                    *server.client_options(), program=GODWIT)
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertEqual(server.wait(), 1)
        self.assertIn(f"page-server.parents_unusable directories={pages[0]} ", server.said())
        self.assert_runs_on(pid)

    def test_a_page_server_that_is_killed(self):
        """It cannot say what it has freed. The dump says that, and the next one has it."""
        pid = self.begin()
        pages = [self.place / "pages" / name for name in ("1", "2", "3")]
        pages[0].parent.mkdir()
        with PageServer([GODWIT], pages[0], []) as server:
            self.must("pre-dump", "-t", pid, "-D", "1", *server.client_options(), program=GODWIT)
            self.assertEqual(server.wait(), 0, server.said())
        self.fill(1)
        blocks = Blocks(pages[0], pages[1])
        more = ["--prev-images-dir", "../1", "--auto-dedup"]
        with PageServer([GODWIT], pages[1], more) as server:
            dump = self.begin_command("dump", "-t", pid, "-D", "2", "-R", "--prev-images-dir", "../1", *server.client_options(),
                                      program=GODWIT)
            wait_until(lambda: blocks.now()[1] > SIZE / 8, "it stores pages")
            server.process.kill()
            said = dump.communicate(timeout=WITHIN)[0]
        self.assertEqual(dump.returncode, 1, said)
        self.assertIn(f"dump.unusable directory={self.place}/2 ", said)
        self.assertIn("dump.parents_doubtful", said)
        self.assert_runs_on(pid)
        with PageServer([GODWIT], pages[2], more) as server:
            said = self.must("dump", "-t", pid, "-D", "3", "--prev-images-dir", "../1", *server.client_options(), program=GODWIT)
            self.assertEqual(server.wait(), 0, server.said())
        self.assertNotIn("dump.whole", said)
        self.assert_ended(pid)
        for state in (self.place / "3").glob("*.img"):
            shutil.copy(state, pages[2])
        self.assert_restores(pid, str(pages[2]))
        self.assertEqual(self.digits(), "1")


if __name__ == "__main__":
    main()
