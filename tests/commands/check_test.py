#!/usr/bin/python3
"""`check` where something is missing: what is needed is named, and the status says so; without the rest the command does."""

import shutil
import subprocess

from command_case import ENGINE, CommandCase, main
from filtered import failing, filter_calls

# Numbers of x86_64; the words are those that `check` uses.
CALLS = {"pidfd_getfd (5.6)": 438, "kcmp": 312, "clone3 with set_tid (5.5)": 435, "openat2 (5.6)": 437}
ENOSYS, EPERM = 38, 1


class Check(CommandCase):
    def assert_lacks(self, done: subprocess.CompletedProcess, *whats: str) -> None:
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertNotIn("Looks good", done.stdout)
        listed, _, failure = done.stdout.partition("this host lacks ")
        for what in whats:
            self.assertRegex(listed, rf"(?m)^{what.replace('(', '[(]').replace(')', '[)]')} +no: ")
            self.assertIn(what, failure)

    def with_a_tool(self, *words: str) -> subprocess.CompletedProcess:
        """As `check` is started by it."""
        return self.run_command(*words[1:], program=words[0])

    def test_nothing_is_missing_here(self):
        said = self.must("check")
        self.assertTrue(said.endswith("Looks good.\n"), said)

    def test_who_is_not_root_is_told(self):
        engine = shutil.copy(ENGINE, self.place)  # he may not get to where it is
        done = self.with_a_tool("setpriv", "--reuid", "nobody", "--", engine, "check")
        self.assert_lacks(done, "root", "tracing of other processes", "clone3 with set_tid (5.5)", "/proc/PID/map_files")

    def test_a_capability_that_is_needed_is_missed(self):
        for drop, whats in (("-sys_ptrace", ("tracing of other processes",)),
                            ("-sys_admin,-checkpoint_restore", ("clone3 with set_tid (5.5)", "/proc/PID/map_files"))):
            with self.subTest(drop):
                done = self.with_a_tool("setpriv", "--bounding-set", drop, "--inh-caps", drop, "--", ENGINE, "check")
                self.assert_lacks(done, *whats)
                self.assertRegex(done.stdout, "(?m)^root +yes")

    def test_a_system_call_that_is_kept_from_it_is_missed(self):
        for what, number in CALLS.items():
            for error in (ENOSYS, EPERM):
                with self.subTest(what, error=error):
                    done = self.run_command("check", preexec_fn=lambda n=number, e=error: filter_calls([n], failing(e)))
                    self.assert_lacks(done, what)

    def test_a_part_of_proc_that_is_not_there_is_missed(self):
        done = self.with_a_tool("unshare", "--mount", "sh", "-c",
                                f"mount -t tmpfs none /proc/sys && exec {ENGINE} check")
        self.assert_lacks(done, "clone3 with set_tid (5.5)")

    def test_without_what_only_daemons_need_it_looks_good(self):
        done = self.with_a_tool("unshare", "--mount", "sh", "-c", f"umount -R /sys/fs/cgroup && exec {ENGINE} check")
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertRegex(done.stdout, "(?m)^control groups v2 +no: no live migration$")
        self.assertTrue(done.stdout.endswith("Looks good.\n"), done.stdout)


if __name__ == "__main__":
    main()
