#!/usr/bin/python3
"""What a restore needs of its host and does not find: all of it is said at once, before anything is made."""

import subprocess

from command_case import CommandCase, main, others

REFUSED = 3
READER = """
import time
first, second = open("{place}/first"), open("{place}/second")
n = 0
while True:
    print(n, flush=True)
    n += 1
    time.sleep(0.005)
"""


class Host(CommandCase):
    def dump(self) -> int:
        for name in ("first", "second"):
            (self.place / name).write_text("is open")
        pid = self.start(READER.format(place=self.place), pid=500)
        self.must("dump", "-t", pid, "-D", "1")
        self.assert_ended(pid)
        return pid

    def take(self, pid: int) -> None:
        with open("/proc/sys/kernel/ns_last_pid", "w") as last:
            last.write(str(pid - 1))
        holder = subprocess.Popen(["sleep", "100"])
        holder.returncode = 0  # it is reaped with the others
        self.assertEqual(holder.pid, pid)

    def test_files_and_pids_are_named_together(self):
        pid = self.dump()
        for name in ("first", "second"):
            (self.place / name).unlink()
        self.take(pid)
        done = self.run_command("restore", "-d", "-D", "1")
        self.assertEqual(done.returncode, REFUSED, done.stdout)
        for what in (f"{self.place}/first: missing here", f"{self.place}/second: missing here",
                     f"PID {pid} is taken by process {pid} (sleep)", "copy the files", "--namespaces"):
            self.assertIn(what, done.stdout)
        self.assertEqual(others(), [pid])

    def test_a_pid_alone_is_another_failure(self):
        pid = self.dump()
        self.take(pid)
        done = self.run_command("restore", "-d", "-D", "1")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn(f"PID {pid} is taken by process {pid} (sleep)", done.stdout)
        self.assertIn("already_exists", done.stdout)
        self.assertNotIn("lacks", done.stdout)


if __name__ == "__main__":
    main()
