#!/usr/bin/python3
"""What the commands write beside images: log, pidfile, statistics, status byte; and the commands that only look."""

import json
import unittest

from seed_case import SOURCE, SeedCase


class Options(SeedCase):
    def here(self):
        return self.bed.root(SOURCE) / self.place.lstrip("/")

    def show(self, path: str):
        return json.loads(self.bed.shell(SOURCE, f"cd {self.place} && godwit image show {path}").stdout)

    def test_log_pidfile_statistics_and_status_go_where_they_are_told_to(self):
        workload = self.begin("python")
        self.run_line("mkdir work")
        beside = "-W work -o the.log --pidfile the.pid --status-fd 9 9> status"
        for command, option, stats, count in (("dump -t $PID", "", "stats-dump", "pages_written"),
                                              ("restore", "-d", "stats-restore", "pages_restored")):
            with self.subTest(command):
                self.run_line(f"godwit {command} -D 1 -v {option} {beside}", workload)
                self.assertEqual((self.here() / "status").read_bytes(), b"\0")
                self.assertEqual((self.here() / "work/the.pid").read_text(), f"{workload.pid}\n")
                self.assertIn(f"{command.split()[0]}.done", (self.here() / "work/the.log").read_text())
                self.assertFalse((self.here() / "1" / stats).exists())
                (entry,) = self.show(f"work/{stats}")[0]["entries"]
                self.assertGreater(int(entry[command.split()[0]][count]), 8000)

    def test_a_log_in_an_images_directory_that_is_made_for_it(self):
        workload = self.begin("python")
        self.run_line("godwit dump -t $PID -D new/1 -v -o dump.log", workload)
        self.assertIn("dump.done", (self.here() / "new/1/dump.log").read_text())

    def test_what_is_restored_stopped_runs_when_it_is_continued(self):
        workload = self.begin("python")
        self.run_line("godwit dump -t $PID -D 1", workload)
        self.run_line("godwit restore -D 1 -d --leave-stopped")
        self.assertEqual(self.try_line(f"ps -o stat= -p {workload.pid}").stdout.strip()[:1], "T")
        self.run_line(f"kill -CONT {workload.pid}")
        self.assertTrue(workload.alive())

    def test_options_of_later_kinds_are_taken(self):
        workload = self.begin("python")
        kinds = "--file-locks --link-remap --tcp-established --ext-unix-sk --shell-job"
        self.run_line(f"godwit dump -t $PID -D 1 {kinds}", workload)
        self.run_line(f"godwit restore -D 1 -d {kinds}")
        self.assertTrue(workload.alive())

    def test_a_failure_is_in_the_log_and_said(self):
        workload = self.begin("python")
        self.run_line("mkdir 1 work")
        self.assert_refused("godwit restore -D 1 -W work -o the.log", "inventory.img", workload=workload)
        self.assertIn("inventory.img", (self.here() / "work/the.log").read_text())

    def test_a_restore_frees_what_it_reads_only_when_asked_to(self):
        workload = self.begin("python")
        self.run_line("godwit dump -t $PID -D 1", workload)
        before = self.blocks("1")
        self.run_line("godwit restore -D 1 -d")
        self.assertEqual(self.blocks("1"), before)
        workload.end()
        self.run_line("godwit restore -D 1 -d --auto-dedup")
        self.assertEqual(self.blocks("1"), 0)
        workload.end()
        self.assert_refused("godwit restore -D 1 -d", "freed by a dedup")

    def test_verbosity_is_criu_s(self):
        workload = self.begin("python")
        for options, done, debug in (("", 0, 0), ("-v0", 0, 0), ("-v1", 0, 0), ("-v2", 0, 0), ("-v", 1, 0), ("-v3", 1, 0),
                                     ("-vv", 1, 1), ("-v -v", 1, 1), ("-v4", 1, 1), ("-v5", 1, 1), ("--verbosity", 1, 0),
                                     ("--verbosity=4", 1, 1)):
            with self.subTest(options):
                said = self.run_line(f"godwit dump -t $PID -D 1 -R --action-script /bin/true {options}", workload)
                self.assertEqual(said.count("dump.done"), done, said)
                self.assertEqual("action.script" in said, bool(debug), said)

    def test_nothing_is_said_at_verbosity_0(self):
        for options, said in (("-v1", True), ("-v0", False)):
            done = self.try_line(f"godwit restore -D nowhere {options}")
            self.assertNotEqual(done.returncode, 0)
            self.assertEqual(bool(done.stdout + done.stderr), said, done.stderr)

    def test_a_log_on_standard_output(self):
        workload = self.begin("python")
        done = self.try_line("godwit dump -t $PID -D 1 -R -v3 -o -", workload)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("dump.done", done.stdout)
        self.assertFalse((self.here() / "1/-").exists())

    def test_a_pre_dump_writes_its_pidfile_and_its_status(self):
        workload = self.begin("python")
        self.run_line("godwit pre-dump -t $PID -D 1 --leave-running --pidfile the.pid --status-fd 9 9> status", workload)
        self.assertEqual((self.here() / "status").read_bytes(), b"\0")
        self.assertEqual((self.here() / "1/the.pid").read_text(), f"{workload.pid}\n")
        self.assertTrue(workload.alive())

    def test_check_and_cpuinfo(self):
        listed = self.try_line("godwit check")
        self.assertEqual(listed.returncode, 0, listed.stderr)
        self.assertRegex(listed.stdout, r"clone3 with set_tid.* yes")
        self.assertEqual(listed.stdout.splitlines()[-1], "Looks good.")
        self.run_line("godwit cpuinfo dump -D cpu")
        self.run_line("godwit cpuinfo check -D cpu")
        (entry,) = self.show("cpu/cpuinfo.img")[0]["entries"]
        self.assertTrue(entry["x86_entry"][0]["model_id"])
        self.assert_refused("godwit cpuinfo check -D .", "cpuinfo.img is missing")

    def test_images_are_shown(self):
        workload = self.begin("python")
        self.run_line("godwit dump -t $PID -D 1", workload)
        whole = self.show("1")
        names = [image["file"] for image in whole]
        self.assertEqual(names, sorted(names))
        for name in ("inventory.img", "pstree.img", f"core-{workload.pid}.img", f"pagemap-{workload.pid}.img", "stats-dump"):
            self.assertIn(name, names)
        self.assertFalse([name for name in names if name.startswith("pages-")])
        some = self.show("1/pstree.img 1/inventory.img")
        self.assertEqual([image["file"] for image in some], ["pstree.img", "inventory.img"])
        self.assertEqual(some[0], whole[names.index("pstree.img")])
        self.assertEqual(some[0]["entries"][0]["pid"], workload.pid)

    def test_an_image_that_is_damaged_is_not_shown(self):
        workload = self.begin("python")
        self.run_line("godwit dump -t $PID -D 1", workload)
        self.run_line("truncate -s -1 1/pstree.img")
        self.assert_refused("godwit image show 1/pstree.img", "pstree.img at offset 8: the file ends inside a record")
        self.run_line("printf x | dd of=1/files.img conv=notrunc status=none")
        self.assert_refused("godwit image show 1/files.img", "files.img at offset 0: wrong magic")
        self.assert_refused("godwit image show 1/pages-1.img", "pages-1.img")
        self.assert_refused("godwit image show nothing.txt", "no name of an image")

    def test_a_restore_from_a_pre_dump_is_refused(self):
        workload = self.begin("python")
        self.run_line("godwit pre-dump -t $PID -D 1", workload)
        self.assert_refused("godwit restore -D 1", "holds a pre-dump")
        self.assertTrue(workload.alive())


if __name__ == "__main__":
    unittest.main(verbosity=2)
