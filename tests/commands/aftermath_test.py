#!/usr/bin/python3
"""What fails when a command's work is done, and the process gone: it is said, and the dump is the success that it is. What can be
found out before is, with nothing touched."""

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

from command_case import COUNTER, RUN, CommandCase, main, start_time, stat_of, wait_until

BAD_COMMAND_LINE = 2


class Aftermath(CommandCase):
    def test_a_pidfile_that_cannot_be_written_is_said_before_anything_is_touched(self):
        pid = self.start()
        for command in ("dump", "pre-dump"):
            done = self.run_command(command, "-t", pid, "-D", "1", "--pidfile", "nowhere/the.pid")
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertIn("nowhere/the.pid", done.stdout)
            self.assertFalse((self.place / "1/inventory.img").exists())
            self.assert_runs_on(pid)

    def test_a_pidfile_that_a_restore_cannot_write_leaves_no_process(self):
        pid = self.start()
        self.must("dump", "-t", pid, "-D", "1")
        self.assert_ended(pid)
        count = len(self.lines())
        for options in ([], ["-d"], ["-n", "-d"]):
            done = self.run_command("restore", "-D", "1", "--pidfile", "nowhere/the.pid", *options)
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertIn("nowhere/the.pid", done.stdout)
            wait_until(lambda: not self.left(), "nothing runs")
        self.assertEqual(len(self.lines()), count, "it has never run")
        self.assert_restores(pid, "1")

    def test_a_restore_that_frees_what_it_reads_opens_its_pidfile_before(self):
        pid = self.start()
        self.must("dump", "-t", pid, "-D", "1")
        self.assert_ended(pid)
        done = self.run_command("restore", "-D", "1", "--auto-dedup", "--pidfile", "nowhere/the.pid")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("nowhere/the.pid", done.stdout)
        self.assertNotIn("restore.images_unusable", done.stdout)
        shutil.copytree(self.place / "1", self.place / "cut")
        os.truncate(self.place / "cut/pages-1.img", 4096)
        (self.place / "cut/the.pid").write_text("of somebody else\n")
        self.assertEqual(self.run_command("restore", "-d", "-D", "cut", "--pidfile", "the.pid").returncode, 1)
        self.assertEqual((self.place / "cut/the.pid").read_text(), "of somebody else\n", "nothing was restored")
        wait_until(lambda: not self.left(), "nothing runs")
        self.must("restore", "-d", "-D", "1", "--auto-dedup", "--pidfile", "the.pid")
        self.assertEqual((self.place / "1/the.pid").read_text(), f"{pid}\n")
        self.assert_runs_on(pid)

    def test_a_restore_that_fails_names_what_it_has_freed(self):
        pid = self.start()
        self.must("dump", "-t", pid, "-D", "1", "-R", "--track-mem")
        self.must("dump", "-t", pid, "-D", "2", "--prev-images-dir", "../1")
        self.assert_ended(pid)
        script = self.script("exit 1", step="post-restore")
        named = f'restore.images_unusable directories="{self.place}/2, {self.place}/1"'
        for options in ([], ["--auto-dedup"]):
            done = self.run_command("restore", "-D", "2", "--action-script", script, *options)
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertEqual(named in done.stdout, bool(options), done.stdout)
            wait_until(lambda: not self.left(), "nothing runs")
        done = self.run_command("restore", "-d", "-D", "2")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("freed by a dedup", done.stdout)

    def disk_that_loses(self) -> str:
        """A file system that takes more than its disk has room for: it says so when it is asked to write, or to nobody."""
        backing, mounted = self.place / "backing", self.place / "disk"
        backing.mkdir()
        mounted.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", backing], check=True)
        self.addCleanup(subprocess.run, ["umount", backing], check=True)
        with open(backing / "disk", "wb") as disk:
            disk.truncate(256 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", "-E", "lazy_itable_init=1", backing / "disk"], check=True)
        if subprocess.run(["mount", "-o", "loop", backing / "disk", mounted]).returncode:
            self.skipTest("there are no loop devices")
        self.addCleanup(subprocess.run, ["umount", mounted], check=True)
        self.addCleanup(self.end_all)
        return mounted.name

    def test_a_process_does_not_end_before_its_dump_is_on_the_disk(self):
        disk = self.disk_that_loses()
        pid = self.start(f"memory = bytearray(b'x' * {64 << 20})\n{COUNTER}")
        done = self.run_command("dump", "-t", pid, "-D", f"{disk}/1")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("bring pages-1.img to the disk", done.stdout)
        self.assertIn(f"dump.unusable directory={self.place}/{disk}/1 ", done.stdout)
        self.assertFalse((self.place / disk / "1/inventory.img").exists())
        self.assert_runs_on(pid)
        # Nor those that it rests on, which were written while it ran on.
        self.must("dump", "-t", pid, "-D", f"{disk}/2", "-R", "--track-mem")
        done = self.run_command("dump", "-t", pid, "-D", "3", "--prev-images-dir", f"../{disk}/2")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn(f"bring {self.place}/{disk}/2/", done.stdout)
        self.assert_runs_on(pid)
        self.must("dump", "-t", pid, "-D", "4")
        self.assert_ended(pid)
        self.assert_restores(pid, "4")

    def test_who_runs_on_waits_for_no_disk(self):
        pid = self.start()
        for command in (["pre-dump"], ["dump", "-R"], ["dump", "--leave-stopped"]):
            self.must(*command, "-t", pid, "-D", "1", env={"GODWIT_FAULT": "storage.sync=fail"})
        self.must("resume", "-t", pid)
        self.end_all()
        pid = self.start()
        done = self.run_command("dump", "-t", pid, "-D", "1", env={"GODWIT_FAULT": "storage.sync=fail"})
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assert_runs_on(pid)

    def test_a_file_of_pages_that_cannot_be_closed_is_a_failed_dump(self):
        """On NFS that says whether it could be written. The process may run by then, and what was taken is in no dump."""
        pid = self.start()
        fault = self.place / "fault"
        armed = {"GODWIT_FAULT_FILE": str(fault)}
        goes_on = ["-R", "--track-mem"]
        self.must("dump", "-t", pid, "-D", "1", *goes_on, env=armed)
        keep = self.script(f"cp 2/inventory.img {self.place}/kept")
        for command in (["dump", "--leave-stopped", "--track-mem"], ["pre-dump"], ["dump"],
                        ["dump", *goes_on, "--action-script", str(keep)]):
            fault.write_text("engine.dump.close=fail")
            done = self.run_command(*command, "-t", pid, "-D", "2", "--prev-images-dir", "../1", env=armed)
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertNotIn("dump.whole", done.stdout)
            self.assertIn("engine.dump.close", done.stdout)
            self.assertIn(f"dump.unusable directory={self.place}/2 ", done.stdout)
            self.assert_runs_on(pid)
        (self.place / "kept").rename(self.place / "2/inventory.img")  # as if it could not be removed
        said = self.must("dump", "-t", pid, "-D", "3", "--prev-images-dir", "../2")
        self.assertIn("dump.whole", said)
        self.assert_ended(pid)
        self.assert_restores(pid, "3")

    def test_the_pidfile_is_there_before_the_process_ends(self):
        pid = self.start()
        script = self.script(f"cp 1/the.pid {self.place}/seen")
        self.must("dump", "-t", pid, "-D", "1", "--pidfile", "the.pid", "--action-script", script)
        self.assertEqual((self.place / "seen").read_text(), f"{pid}\n")

    def test_a_stop_that_cannot_be_noted_is_a_failed_dump(self):
        """There is no room in /run: nobody could say later that this is the process which was dumped."""
        pid = self.start()
        RUN.mkdir(mode=0o700, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,mode=700", "tmpfs", RUN], check=True)
        self.addCleanup(subprocess.run, ["umount", RUN], check=True)
        (RUN / "full").write_bytes(bytes(4096))
        done = self.run_command("dump", "-t", pid, "-D", "1", "--leave-stopped")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn(f"write {RUN}/{pid}.{start_time(pid)}.stopped", done.stdout)
        self.assertIn("No space left", done.stdout)
        self.assertFalse((self.place / "1/inventory.img").exists())
        self.assert_runs_on(pid)
        self.assertEqual(os.listdir(RUN), ["full"])
        (RUN / "full").unlink()
        self.must("dump", "-t", pid, "-D", "1", "--leave-stopped")
        self.must("kill", "-t", pid)
        self.assert_ended(pid)
        self.assert_restores(pid, "1")

    def test_a_status_descriptor_that_cannot_be_written_is_a_bad_command_line(self):
        pid = self.start()
        reads = os.open("/dev/null", os.O_RDONLY)
        self.addCleanup(os.close, reads)
        for descriptor in (77, reads):
            for command in (("dump", "-t", pid), ("restore",)):
                done = self.run_command(*command, "-D", "1", "--status-fd", descriptor, pass_fds=[reads])
                self.assertEqual(done.returncode, BAD_COMMAND_LINE, done.stdout)
                self.assertIn("--status-fd", done.stdout)
        self.assert_runs_on(pid)

    def frozen_seconds(self, images: str) -> float:
        (shown,) = json.loads(self.must("image", "show", f"{images}/stats-dump"))
        return int(shown["entries"][0]["dump"]["frozen_time"]) / 1e6

    def test_it_is_frozen_until_it_runs_again(self):
        """Nothing is left out that happens while it stands still: what is written then, the scripts."""
        pid = self.start()
        script = self.script("sleep 0.7")
        for number, options in enumerate((["-R"], ["--leave-stopped"], [])):
            began = time.monotonic()
            self.must("dump", "-t", pid, "-D", number, "--action-script", script, *options)
            took = time.monotonic() - began
            self.assertGreaterEqual(self.frozen_seconds(str(number)), 0.7, options)
            self.assertLess(self.frozen_seconds(str(number)), took, options)

    def test_statistics_that_cannot_be_written_are_no_failed_dump(self):
        work = self.place / "work"
        work.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", work], check=True)
        (work / "full").write_bytes(bytes(4096))
        pid = self.start()
        for options in ([], ["-R"]):
            said = self.must("pre-dump" if not options else "dump", "-t", pid, "-D", "1", "-W", work, *options)
            self.assertIn("stats-dump", said)
            self.assert_runs_on(pid)
        self.must("dump", "-t", pid, "-D", "1", "-W", work)
        self.assert_ended(pid)
        self.assert_restores(pid, "1")

    def start_slow_to_end(self) -> tuple[int, int]:
        """A counter that, killed, ends only when the other process that is returned has been continued: it is the first of its
        PID namespace, and has to outlive all in it until their parents have taken notice of their ends."""
        with open(self.output, "ab") as output:
            unshare = subprocess.Popen(["unshare", "--pid", "--fork", "setsid", "/usr/bin/python3", "-c", COUNTER],
                                       stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/")
        wait_until(self.lines, "the program starts")
        pid = int(Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text())
        parent = subprocess.Popen(["nsenter", "-t", str(pid), "-p", "sleep", "1000"])
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        wait_until(children.read_text, "it has a child in there")
        os.kill(parent.pid, signal.SIGSTOP)
        unshare.returncode = parent.returncode = 0  # they are reaped with the others
        return pid, parent.pid

    def test_an_end_that_takes_long_is_waited_for(self):
        """As that of a process with much memory: longer than a look at it takes."""
        for command, options in (("dump", []), ("kill", ["--leave-stopped"])):
            pid, late = self.start_slow_to_end()
            if options:
                self.must("dump", "-t", pid, "-D", "1", *options)
            timer = threading.Timer(7, os.kill, (late, signal.SIGCONT))
            self.addCleanup(timer.cancel)
            timer.start()
            began = time.monotonic()
            self.must(command, "-t", pid, *(["-D", "1"] if not options else []))
            self.assertGreater(time.monotonic() - began, 6, command)
            self.assertEqual(stat_of(pid), [])
            self.output.unlink()

    def test_a_status_that_nobody_reads_any_more_is_no_failed_dump(self):
        pid = self.start()
        status = self.nobody_reads()
        said = self.must("pre-dump", "-t", pid, "-D", "0", "--status-fd", status, pass_fds=[status])
        self.assertIn("--status-fd", said)
        self.assert_runs_on(pid)
        said = self.must("dump", "-t", pid, "-D", "1", "--status-fd", status, pass_fds=[status])
        self.assertIn("--status-fd", said)
        self.assertIn("the dump is complete", said)
        self.assert_ended(pid)
        self.assert_restores(pid, "1")

    def test_a_restored_process_runs_on_whoever_hears_of_it(self):
        pid = self.start()
        self.must("dump", "-t", pid, "-D", "1")
        self.assert_ended(pid)
        # Nor can the statistics be written.
        work = self.place / "work"
        work.mkdir()
        (work / "stats-restore").mkdir()
        status = self.nobody_reads()
        said = self.must("restore", "-d", "-D", "1", "-W", work, "--status-fd", status, pass_fds=[status])
        self.assertIn("--status-fd", said)
        self.assertIn("stats-restore", said)
        self.assert_runs_on(pid)

    def test_parents_that_cannot_be_deduplicated_are_no_failed_dump(self):
        pid = self.start()
        self.must("dump", "-t", pid, "-D", "1", "-R", "--track-mem")
        self.must("dump", "-t", pid, "-D", "2", "-R", "--track-mem", "--prev-images-dir", "../1")
        script = self.script(f"truncate -s 3 {self.place}/1/pagemap-{pid}.img")
        said = self.must("dump", "-t", pid, "-D", "3", "--prev-images-dir", "../2", "--auto-dedup", "--action-script", script)
        self.assertIn("the dump is complete", said)
        self.assertIn(f"pagemap-{pid}.img", said)
        self.assertTrue((self.place / "3/inventory.img").exists())
        self.assert_ended(pid)


if __name__ == "__main__":
    main()
