#!/usr/bin/python3
"""Save and restore: again and again from one dump, with its PID or in a namespace where it is free; what is missing or in the
way is named, all at once, before anything is made."""

import json
import re
import subprocess
import unittest

import page
from seed_case import DESTINATION, SOURCE, WORKLOADS, SeedCase, read, wait_until


class SaveRestore(SeedCase):
    def sequence(self, kind: str):
        workload = self.begin(kind)
        (dump, restore), (in_namespace,) = page.section("Save and restore")
        before = workload.progress()
        self.run_line(dump, workload)
        moment = (before, workload.progress())
        workload.stop_load()
        for _ in range(2):
            workload.settle()
            self.run_line(restore)
            self.assertEqual(self.parent_of(workload.pid), 1, "init adopts it")
            self.assert_between(workload.state(), *moment, workload)
            workload.end()
        # Somebody else has the PID now.
        holder = self.take_pid(workload.pid)
        self.addCleanup(lambda: self.bed.shell(SOURCE, f"kill -KILL {workload.pid}"))
        self.assert_refused(restore.text, f"PID {workload.pid} is taken by process {workload.pid} ({holder})", "--namespaces")
        workload.settle()
        self.run_line(in_namespace)
        self.assert_between(workload.state(), *moment, workload)

    def take_pid(self, pid: int) -> str:
        """Something that sleeps under this PID; its name."""
        for _ in range(50):
            if self.bed.shell(SOURCE, f"cat /proc/{pid}/comm").stdout.strip() == "sleep":
                return "sleep"
            self.bed.shell(SOURCE, f"echo {pid - 1} > /proc/sys/kernel/ns_last_pid; "
                                   "setsid sleep 300 > /dev/null 2>&1 < /dev/null &")
        self.fail(f"PID {pid} cannot be had")

    def parent_of(self, pid: int) -> int:
        status = self.bed.shell(SOURCE, f"cat /proc/{pid}/status").stdout
        return int(re.search(r"^PPid:\s(\d+)", status, re.M)[1])

    def test_waits_and_ends_as_the_process_does(self):
        workload = self.begin("python")
        self.run_line("godwit dump -t $PID -D 1", workload)
        waiting = self.bed.start(SOURCE, "bash", "-c", f"cd {self.place} && exec godwit restore -D 1 -v1")
        wait_until(workload.alive, "it is restored")
        self.bed.shell(SOURCE, f"kill -TERM {workload.pid}")
        self.assertEqual(waiting.wait(30), 128 + 15)

    def test_a_sibling_is_the_child_of_whoever_asked(self):
        workload = self.begin("python")
        self.run_line("godwit dump -t $PID -D 1", workload)
        workload.settle()
        done = self.try_line("godwit restore -D 1 -d -S && grep ^PPid: /proc/$PID/status && echo $$", workload)
        parent, shell = done.stdout.split()[1:]
        self.assertEqual(parent, shell, done.stderr)
        self.assertTrue(workload.state() > 0)
        self.assert_refused("godwit restore -D 1 -S", "--restore-detached")

    def test_missing_files_are_named_all_at_once(self):
        workload = self.begin("python")
        self.run_line("godwit dump -t $PID -D 1", workload)
        images = f"tar -C {self.place} -c 1 | ssh destination tar -C {self.place} -x"
        self.run_line(images)
        shown = json.loads(self.bed.shell(DESTINATION, f"godwit image show {self.place}/1/files.img").stdout)
        paths = [entry["reg"]["name"] for entry in shown[0]["entries"] if "reg" in entry]
        libraries = [path for path in paths if re.search(r"/(libbz2|liblzma)\.so", path)]
        self.assertEqual(len(libraries), 2, paths)
        for library in libraries:
            self.bed.shell(DESTINATION, f"mv {library} {self.place}/")
            self.addCleanup(self.bed.shell, DESTINATION, f"mv {self.place}/{library.rsplit('/')[-1]} {library}")
        (workload.home / "trace").rename(workload.home / "elsewhere")
        done = self.bed.shell(DESTINATION, f"godwit restore -D {self.place}/1 -d")
        self.assertEqual(done.returncode, 3, done.stderr)
        for path in (*libraries, f"{workload.inside}/trace"):
            self.assertIn(f"{path}: missing here", done.stderr)
        self.assertFalse(workload.alive(DESTINATION))

    def on_terminal(self, command: str, screen: str) -> subprocess.Popen:
        """Runs it on a terminal of its own, which is shown in a file."""
        return self.bed.start(SOURCE, "script", "-qefc", command, screen, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def test_a_process_on_a_terminal_moves_to_another_one(self):
        shared = self.bed.lab.state / "shared"
        first = self.on_terminal("sh -c 'echo $$ > /srv/shared/on-terminal; while sleep 0.05; do echo line $((n += 1)); done'", "/dev/null")
        pid = wait_until(lambda: read(shared / "on-terminal").strip(), "it starts")
        self.addCleanup(lambda: self.bed.shell(SOURCE, f"kill -KILL {pid}"))
        self.assert_refused(f"godwit dump -t {pid} -D 1", "terminal", "--shell-job")
        self.assertEqual(self.bed.shell(SOURCE, f"kill -0 {pid}").returncode, 0)
        self.run_line(f"godwit dump -t {pid} -D 1 --shell-job")
        first.wait(30)
        self.assert_refused("godwit restore -D 1", "/dev/pts/", "--shell-job")
        self.assert_refused("godwit restore -D 1 --shell-job", "standard input is no terminal")
        second = self.on_terminal(f"godwit restore -D {self.place}/1 --shell-job", "/srv/shared/screen")
        wait_until(lambda: read(shared / "screen").count("line ") > 20, "it writes to the other terminal")
        self.bed.shell(SOURCE, f"kill -TERM {pid}")
        self.assertEqual(second.wait(30), 128 + 15)


for kind in WORKLOADS:
    setattr(SaveRestore, f"test_{kind}", lambda self, kind=kind: self.sequence(kind))

if __name__ == "__main__":
    unittest.main(verbosity=2)
