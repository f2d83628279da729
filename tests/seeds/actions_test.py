#!/usr/bin/python3
"""Action scripts: what they are shown at which step, as CRIU has it, and what comes of one that fails."""

import unittest

from seed_case import SOURCE, SeedCase, read, wait_until

VETO = 7


class Actions(SeedCase):
    def setUp(self):
        super().setUp()
        self.here = self.bed.root(SOURCE) / self.place.lstrip("/")
        script = self.here / "a hook"  # a path, not a command line
        script.write_text("#!/bin/sh\n"
                          "process=$(cat /proc/$CRTOOLS_INIT_PID/comm 2> /dev/null)\n"
                          "echo $CRTOOLS_SCRIPT_ACTION $CRTOOLS_IMAGE_DIR $CRTOOLS_INIT_PID $process >> "
                          f"{self.place}/steps\n"
                          f"[ \"$(cat {self.place}/veto)\" != $CRTOOLS_SCRIPT_ACTION ] || exit {VETO}\n")
        script.chmod(0o755)
        self.hook = f"--action-script '{self.place}/a hook'"
        self.veto_at("nothing")

    def veto_at(self, step: str):
        (self.here / "veto").write_text(step)
        (self.here / "steps").unlink(missing_ok=True)

    def steps(self) -> list[str]:
        return [line.replace(f"{self.place}/1", "IMAGES") for line in read(self.here / "steps").splitlines()]

    def assert_runs_on(self, workload):
        at = workload.progress()
        wait_until(lambda: workload.progress() > at + 20, "it runs on")

    def test_they_see_what_criu_shows_them(self):
        workload = self.begin("python")
        pid, name = workload.pid, "python3"
        self.run_line(f"godwit pre-dump -t $PID -D 0 {self.hook}", workload)
        self.assertEqual(self.steps(), [])
        self.run_line(f"godwit dump -t $PID -D 1 {self.hook}", workload)
        self.assertEqual(self.steps(), [f"{step} IMAGES {pid} {name}" for step in ("pre-dump", "post-dump")])
        self.veto_at("nothing")
        self.run_line(f"godwit restore -D 1 -d {self.hook}", workload)
        self.assertEqual(self.steps(), ["pre-restore IMAGES", *(f"{step} IMAGES {pid} {name}" for step in
                                                                ("post-restore", "pre-resume", "post-resume"))])

    def test_with_namespaces_these_are_there_before_the_process(self):
        workload = self.begin("python")
        self.run_line("godwit dump -t $PID -D 1", workload)
        self.run_line(f"godwit restore -D 1 -d --namespaces --pidfile the.pid {self.hook}")
        root = read(self.here / "1/the.pid").strip()  # as it is seen here
        self.assertTrue(root.isdigit(), root)
        self.addCleanup(self.bed.shell, SOURCE, f"kill -KILL {root}")
        init = self.bed.shell(SOURCE, f"ps -o ppid= -p {root}").stdout.strip()
        self.assertEqual(self.steps(), ["pre-restore IMAGES",
                                        *(f"{step} IMAGES {init} godwit-init" for step in
                                          ("setup-namespaces", "post-setup-namespaces")),
                                        *(f"{step} IMAGES {root} python3" for step in
                                          ("post-restore", "pre-resume", "post-resume"))])

    def test_one_that_fails_before_a_dump_stops_it(self):
        workload = self.begin("python")
        self.veto_at("pre-dump")
        done = self.try_line(f"godwit dump -t $PID -D 1 {self.hook}", workload)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(f"exited with {VETO} at pre-dump", done.stderr)
        self.assertFalse((self.here / "1/inventory.img").exists())
        self.assert_runs_on(workload)

    def test_one_that_fails_after_a_dump_keeps_the_process_and_the_dump(self):
        workload = self.begin("python")
        self.veto_at("post-dump")
        for directory, options in (("1", ""), ("2", "--leave-stopped"), ("3", "--track-mem --leave-running"),
                                   ("4", "--track-mem --prev-images-dir ../3")):
            with self.subTest(options):
                before = workload.progress()
                done = self.try_line(f"godwit dump -t $PID -D {directory} {options} {self.hook}", workload)
                moment = (before, workload.progress())
                self.assertEqual(done.returncode, VETO, done.stderr)
                self.assertIn("the dump is complete, the process runs on", done.stderr)
                self.assertNotIn("dump.whole", done.stderr)
                self.assert_runs_on(workload)
        workload.end()
        for directory in ("1", "2", "3"):
            self.assertTrue((self.here / directory / "inventory.img").exists())
        workload.settle()
        self.run_line("godwit restore -D 4 -d")
        self.assert_between(workload.state(), *moment, workload)

    def test_one_that_fails_at_a_restore_leaves_no_process(self):
        workload = self.begin("python")
        self.run_line("godwit dump -t $PID -D 1", workload)
        for step, options in (("pre-restore", ""), ("post-restore", ""), ("setup-namespaces", "-n"),
                              ("post-setup-namespaces", "-n"), ("post-restore", "-n")):
            with self.subTest(step + options):
                self.veto_at(step)
                self.assert_refused(f"godwit restore -D 1 -d {options} {self.hook}", f"exited with {VETO} at {step}")
                self.assertFalse(workload.alive())
                self.assertEqual(self.bed.shell(SOURCE, "pgrep -x godwit-init").stdout, "")
        # Too late to matter.
        self.veto_at("pre-resume")
        said = self.run_line(f"godwit restore -D 1 -d {self.hook}")
        self.assertIn("action.failed", said)
        self.assert_runs_on(workload)

    def test_several_run_from_the_last_one_and_every_failure_counts(self):
        workload = self.begin("python")
        hooks = ""
        for name, status in (("one", 1), ("two", 4), ("three", 0)):
            script = self.here / name
            script.write_text(f"#!/bin/sh\n[ $CRTOOLS_SCRIPT_ACTION = post-dump ] || exit 0\n"
                              f"echo {name} >> {self.place}/steps\nexit {status}\n")
            script.chmod(0o755)
            hooks += f" --action-script {self.place}/{name}"
        for options in ("", "--track-mem"):
            (self.here / "steps").unlink(missing_ok=True)
            done = self.try_line(f"godwit dump -t $PID -D 1 {options} {hooks}", workload)
            self.assertEqual(done.returncode, 5, done.stderr)
            self.assertEqual(self.steps(), ["three", "two", "one"])
            self.assert_runs_on(workload)

    def test_one_that_is_not_there_fails(self):
        workload = self.begin("python")
        self.assert_refused(f"godwit dump -t $PID -D 1 --action-script {self.place}/nothing", "No such file", workload=workload)
        self.assert_refused("godwit dump -t $PID -D 1 --action-script 'exit 0'", "No such file", workload=workload)
        self.assert_runs_on(workload)


if __name__ == "__main__":
    unittest.main(verbosity=2)
