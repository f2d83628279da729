#!/usr/bin/python3
"""When a difference would be wrong: a parent that is not the last good dump, a lost tracker, another process under the same
PID. The next dump then has everything and says why. And what a failed dump had taken is in the next one."""

import re
import unittest

from seed_case import SOURCE, SeedCase, read, wait_until

FIRST = "godwit dump -t $PID -D 1 -R --track-mem"


class Tracking(SeedCase):
    def dump(self, directory: str, previous: str, workload, whole: bool, reason: str = ""):
        """A last dump against `previous`; that it is right."""
        before = workload.progress()
        said = self.run_line(f"godwit dump -t $PID -D {directory} --prev-images-dir {previous}", workload)
        moment = (before, workload.progress())
        self.assertEqual("dump.whole" in said, whole, said)
        self.assertIn(reason, said)
        self.assert_restores(directory, moment, workload)

    def assert_restores(self, directory: str, moment, workload):
        workload.settle()
        self.run_line(f"godwit restore -D {directory} -d")
        self.assert_between(workload.state(), *moment, workload)

    def holders(self) -> str:
        return self.bed.shell(SOURCE, "pgrep -f 'godwit-engine holder'").stdout.strip()

    def test_what_a_full_disk_lost_is_in_the_next_dump(self):
        workload = self.begin("python")
        self.run_line(FIRST, workload)
        self.run_line(f"mkdir 2 && mount -t tmpfs -o size=64k tmpfs 2")
        self.addCleanup(lambda: self.bed.shell(SOURCE, f"umount {self.place}/2"))
        at = workload.progress()
        self.assert_refused("godwit dump -t $PID -D 2 --prev-images-dir ../1 -R --track-mem", "dump.unusable", "no_space",
                            workload=workload)
        wait_until(lambda: workload.progress() > at + 20, "it runs on")
        self.assert_refused("godwit restore -D 2 -d", "inventory.img")
        self.dump("3", "../1", workload, whole=False)

    def test_what_a_failed_dump_freed_is_no_parent(self):
        workload = self.begin("python")
        self.run_line(FIRST, workload)
        self.run_line("mkdir 2 && mount -t tmpfs -o size=384k tmpfs 2")  # the first frame fits
        self.addCleanup(lambda: self.bed.shell(SOURCE, f"umount {self.place}/2"))
        done = self.try_line("godwit dump -t $PID -D 2 --prev-images-dir ../1 --auto-dedup -R --track-mem", workload)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("no_space", done.stderr)
        self.assertEqual(self.unusable(done.stderr, "dump.unusable", "directory"), {f"{self.place}/2"})
        self.assertEqual(self.unusable(done.stderr, "dump.parents_unusable", "directories"), {f"{self.place}/1"})
        self.dump("3", "../1", workload, whole=True, reason="what was written since is not known")

    def test_every_parent_that_a_failed_dump_has_freed_from_is_named(self):
        workload = self.begin("python")
        self.run_line(FIRST, workload)
        self.run_line("godwit dump -t $PID -D 2 --prev-images-dir ../1 -R --track-mem", workload)
        self.run_line("mkdir 3 && mount -t tmpfs -o size=384k tmpfs 3")
        self.addCleanup(lambda: self.bed.shell(SOURCE, f"umount {self.place}/3"))
        done = self.try_line("godwit dump -t $PID -D 3 --prev-images-dir ../2 --auto-dedup -R --track-mem", workload)
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(self.unusable(done.stderr, "dump.parents_unusable", "directories"),
                         {f"{self.place}/1", f"{self.place}/2"})
        self.dump("4", "../2", workload, whole=True, reason="what was written since is not known")

    @staticmethod
    def unusable(said: str, event: str, field: str) -> set[str]:
        """The directories that a line of the log names."""
        (named,) = re.findall(rf'^.* {re.escape(event)} {field}=(".*?"|\S+)', said, re.M)
        return set(named.strip('"').split(", "))

    def test_a_failed_dump_is_no_parent(self):
        workload = self.begin("python")
        self.run_line(FIRST, workload)
        self.run_line("mkdir 2 && mount -t tmpfs -o size=64k tmpfs 2")
        self.addCleanup(lambda: self.bed.shell(SOURCE, f"umount {self.place}/2"))
        self.assert_refused("godwit dump -t $PID -D 2 --prev-images-dir ../1 -R --track-mem", workload=workload)
        self.dump("3", "../2", workload, whole=True, reason="did not finish")

    def test_a_parent_that_is_not_the_last_one(self):
        workload = self.begin("python")
        self.run_line(FIRST, workload)
        self.run_line("godwit dump -t $PID -D 2 --prev-images-dir ../1 -R --track-mem", workload)
        self.dump("3", "../1", workload, whole=True, reason="not the last dump")

    def test_a_dump_does_not_overwrite_what_it_is_based_on(self):
        workload = self.begin("python")
        self.run_line(FIRST, workload)
        self.run_line("godwit dump -t $PID -D 2 --prev-images-dir ../1 --track-mem -R", workload)
        for directory in ("1", "2"):
            self.assert_refused(f"godwit dump -t $PID -D {directory} --prev-images-dir ../2 -R",
                                "is a parent of the dump that --prev-images-dir names", workload=workload)
        self.run_line("ln -s ../2 1/parent")
        self.assert_refused("godwit dump -t $PID -D 3 --prev-images-dir ../2 -R", "lead in a circle", workload=workload)
        self.run_line("rm 1/parent")
        self.dump("3", "../2", workload, whole=False)

    def test_a_tracker_that_was_killed(self):
        workload = self.begin("python")
        self.run_line(FIRST, workload)
        self.bed.shell(SOURCE, f"kill -KILL {self.holders()}")
        self.dump("2", "../1", workload, whole=True, reason="nothing tracks this process")

    def test_a_tracker_that_dies_during_a_dump(self):
        workload = self.begin("python")
        said = self.run_line("GODWIT_FAULT=engine.dump.frozen=kill " + FIRST + " || true", workload)
        self.assertEqual(self.unusable(said, "dump.unusable", "directory"), {f"{self.place}/1"})
        self.assertNotIn("dump.parents_unusable", said)
        at = workload.progress()
        wait_until(lambda: workload.progress() > at + 20, "it runs on")
        self.dump("2", "../1", workload, whole=True)

    def test_a_pid_that_is_used_again(self):
        workload = self.begin("python")
        self.run_line(FIRST, workload)
        pid = workload.pid
        workload.end()
        last = pid - 1
        for _ in range(20):
            self.doCleanups()
            self.bed.shell(SOURCE, f"rm -rf {workload.inside}; echo {last} > /proc/sys/kernel/ns_last_pid")
            workload = self.begin("python")
            if workload.pid == pid:
                break
            last -= workload.pid - pid  # what is forked on the way
        self.assertEqual(workload.pid, pid)
        self.dump("2", "../1", workload, whole=True, reason="nothing tracks this process")

    def test_the_holder_ends_with_its_process(self):
        workload = self.begin("python")
        self.run_line(FIRST, workload)
        self.assertTrue(self.holders())
        workload.end()
        wait_until(lambda: not self.holders(), "the holder ends")

    def test_a_holder_that_nobody_comes_to_ends(self):
        """As when the command that started it has been killed just then."""
        workload = self.begin("python")
        stat = self.bed.shell(SOURCE, f"cat /proc/{workload.pid}/stat").stdout.rpartition(") ")[2].split()
        start_time = stat[19]
        starter = self.bed.root(SOURCE) / self.place.lstrip("/") / "starter"
        starter.write_text(
            "import os, socket, sys\n"
            "pid, start_time, engine = sys.argv[1:]\n"
            "os.makedirs('/run/godwit-engine', 0o700, exist_ok=True)\n"
            "listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
            "listener.bind(f'/run/godwit-engine/{pid}.{start_time}.holder')\n"
            "listener.listen()\n"
            "os.set_inheritable(listener.fileno(), True)\n"
            "os.execv(engine, ['godwit-engine', 'holder', '-t', pid, '--control-fd', str(listener.fileno())])\n")
        self.bed.shell(SOURCE, f"setsid -f python3 {self.place}/starter {workload.pid} {start_time} "
                               "$(dirname $(readlink -f $(command -v godwit)))/godwit-engine < /dev/null > /dev/null 2>&1")
        wait_until(workload.holder, "the holder starts")
        wait_until(lambda: not workload.holder(), "the holder ends", 20)
        self.run_line(FIRST, workload)
        self.dump("2", "../1", workload, whole=False)

    def test_the_holder_is_detached_from_the_command(self):
        workload = self.begin("python")
        # A command with a terminal, a directory and a control group of its own.
        self.bed.shell(SOURCE, "mkdir -p /sys/fs/cgroup/of-the-command")
        self.addCleanup(self.bed.shell, SOURCE, "rmdir /sys/fs/cgroup/of-the-command")
        command = f"echo $$ > /sys/fs/cgroup/of-the-command/cgroup.procs; cd {self.place}; {FIRST} > said 2>&1; echo $? > status"
        done = self.bed.shell(SOURCE, f"script -qfc '{command}' /dev/null < /dev/null", PID=str(workload.pid))
        here = self.bed.root(SOURCE) / self.place.lstrip("/")
        self.assertEqual(read(here / "status").strip(), "0", done.stdout + done.stderr + read(here / "said"))
        self.assert_detached(workload)

    def test_the_holder_ends_when_another_program_is_run(self):
        script = f"import os, time; open('{self.place}/pid', 'w').write(str(os.getpid()))\n"
        script += f"while not os.path.exists('{self.place}/go'): time.sleep(0.01)\n"
        script += "os.execv('/bin/sleep', ['sleep', '300'])"
        here = self.bed.root(SOURCE) / self.place.lstrip("/")
        (here / "program").write_text(script)
        self.bed.shell(SOURCE, f"cd /; setsid -f python3 {self.place}/program > /dev/null 2>&1 < /dev/null")
        pid = int(wait_until(lambda: read(here / "pid"), "it starts"))
        self.addCleanup(lambda: self.bed.shell(SOURCE, f"kill -KILL {pid}"))
        self.run_line(f"godwit pre-dump -t {pid} -D 1")
        self.assertTrue(self.holders())
        (here / "go").touch()
        wait_until(lambda: not self.holders(), "the holder ends")
        said = self.run_line(f"godwit dump -t {pid} -D 2 --prev-images-dir ../1")
        self.assertIn("dump.whole", said)
        self.run_line("godwit restore -D 2 -d")
        self.assertEqual(self.bed.shell(SOURCE, f"cat /proc/{pid}/comm").stdout.strip(), "sleep")

    def test_a_command_that_is_killed_during_its_dump(self):
        workload = self.begin("python")
        self.run_line(FIRST, workload)
        killer = self.bed.root(SOURCE) / self.place.lstrip("/") / "killer"
        killer.write_text("#!/bin/sh\n[ $CRTOOLS_SCRIPT_ACTION != post-dump ] || pkill -KILL -f 'godwit-engine dump'\n")
        killer.chmod(0o755)
        done = self.try_line(f"exec godwit dump -t $PID -D 2 --prev-images-dir ../1 --action-script {self.place}/killer",
                             workload)
        self.assertNotEqual(done.returncode, 0)
        self.assertNotIn("engine.failed", done.stderr, "it was not killed")
        at = workload.progress()
        wait_until(lambda: workload.progress() > at + 20, "it runs on")
        self.assert_refused("godwit restore -D 2 -d", "inventory.img")
        self.dump("3", "../1", workload, whole=False)


if __name__ == "__main__":
    unittest.main(verbosity=2)
