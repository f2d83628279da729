#!/usr/bin/python3
"""What is kept of a process in /run goes when the process has ended."""

import os
import time

from command_case import RUN, CommandCase, main, start_time

DAY = 24 * 3600


class Kept(CommandCase):
    def restored(self, images: str) -> tuple[int, str]:
        """A process that sleeps, which a restore keeps a note of; and the name of that."""
        pid = self.start("import select\nprint(0, flush=True)\nselect.poll().poll(1000_000)")
        time.sleep(0.1)  # so that it does
        self.must("dump", "-t", pid, "-D", images)
        self.assert_ended(pid)
        self.must("restore", "-d", "-D", images)
        return pid, f"{pid}.{start_time(pid)}"

    def test_a_note_goes_with_the_process_that_a_dump_or_kill_ends(self):
        for number, options in enumerate(([], ["--leave-stopped"])):
            pid, note = self.restored(f"a{number}")
            self.assertEqual(self.kept(), {note})
            self.must("dump", "-t", pid, "-D", f"b{number}", *options)
            if options:
                self.must("kill", "-t", pid)
            self.assert_ended(pid)
            self.assertEqual(self.kept(), set())

    def test_a_dump_that_ends_what_an_earlier_one_has_left_stopped_leaves_nothing(self):
        pid, _ = self.restored("1")
        self.must("dump", "-t", pid, "-D", "2", "--leave-stopped")
        self.assertEqual(len(self.kept()), 2)
        self.must("dump", "-t", pid, "-D", "3")
        self.assert_ended(pid)
        self.assertEqual(self.kept(), set())

    def test_what_nobody_has_cleared_goes_later(self):
        ended, note = self.restored("1")
        lives, other = self.restored("2")
        self.end(ended)
        left = {note, f"{ended}.17.stopped", f"{lives}.17.holder"}  # the last two: of processes that had these PIDs
        for name in left - {note}:
            (RUN / name).touch()
        self.must("dump", "-t", lives, "-D", "3", "-R")
        self.assertEqual(self.kept(), left | {other}, "another PID namespace may have them")
        for name in self.kept():
            os.utime(RUN / name, (time.time() - DAY,) * 2)
        self.must("dump", "-t", lives, "-D", "3", "-R")
        self.assertEqual(self.kept(), {other})


if __name__ == "__main__":
    main()
