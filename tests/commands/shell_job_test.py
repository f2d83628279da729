#!/usr/bin/python3
"""Programs that a shell has started on a terminal, dumped with --shell-job and restored under another shell on another terminal."""

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

from command_case import ENGINE, REPOSITORY, WITHIN, CommandCase, main, others, stat_of, wait_until

sys.path.insert(0, str(REPOSITORY / "tests/support"))
from shell import JOB, Shell  # noqa: E402


def without_control(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOCTTY)


class ShellJob(CommandCase):
    def setUp(self):
        super().setUp()
        (self.place / "job.py").write_text(JOB)
        self.job = f"/usr/bin/python3 -u {self.place}/job.py"
        self.images = self.place / "images"

    def dump(self, pid: int, *more: str) -> None:
        self.must("dump", "-j", "-t", pid, "-D", self.images, *more)
        self.reap_orphans()

    def reap_orphans(self) -> None:
        """Of what has been ended, whose PIDs are wanted again; this program is PID 1."""
        for pid in others():
            if stat_of(pid)[:2] == ["Z", "1"]:
                os.waitpid(pid, 0)

    def restored(self, shell: Shell, *more: str) -> None:
        """That the command which waits is in the foreground, and the job answers there."""
        shell.run(" ".join([ENGINE, "restore", "-j", "-D", str(self.images), *more, "; echo ended $?"]))

    def moved(self, command: str = "") -> tuple[int, Shell]:
        first = Shell(33)
        pid = first.begin(command or self.job)
        self.dump(pid)
        first.expect("prompt> ")
        second = Shell(44)
        self.restored(second)
        return pid, second

    def test_a_job_goes_on_in_the_foreground_of_another_terminal(self):
        first = Shell(33)
        pid = first.begin(self.job)
        settings = first.ask("be_silent()")
        self.assertEqual(first.ask("where()"), f"{first.pid} {pid} {pid} {first.name} 33")
        self.dump(pid)
        first.expect("Killed")
        second = Shell(44)
        self.assertNotEqual(first.name, second.name)
        self.restored(second)
        self.assertEqual(second.ask("where()"), f"{second.pid} {pid} {pid} {second.name} 33")
        self.assertEqual(second.ask("settings()"), settings)
        self.assertNotIn("resized", second.interrupt(pid))
        second.run("sys.exit(7)")
        second.expect("ended 7")
        second.expect("prompt> ")
        self.assertEqual(first.quiet(0.1).count("="), 0, "something came to the first terminal")

    def test_the_keyboard_stops_it_and_the_shell_brings_it_back(self):
        pid, shell = self.moved()
        shell.ask("1")
        for _ in range(2):
            shell.type("\x1a")
            shell.expect("Stopped")
            shell.expect("prompt> ")
            self.assertEqual(stat_of(pid)[0], "T")
            shell.run("jobs | wc -l")
            shell.expect(r"\n1\r")
            shell.run("fg")
            self.assertEqual(shell.ask("where()").split()[2], str(pid), "it is in the foreground")
            shell.interrupt(pid)
        shell.run("sys.exit(3)")
        shell.expect("ended|prompt> ")  # bash does not go on with a list that was stopped

    def test_in_the_background_it_leaves_the_terminal_alone(self):
        pid, shell = self.moved()
        shell.ask("1")
        shell.type("\x1a")
        shell.expect("Stopped")
        shell.run("bg")  # it reads, which stops it again
        shell.expect("prompt> ")
        # The shell, too, must have seen that: it takes a stop during `fg` for one after it.
        shell.run("until jobs -s | grep -q restore; do sleep 0.05; done; echo $((6 * 7))")
        shell.expect(r"42\r")
        self.assertEqual(stat_of(pid)[0], "T", "it is stopped by its read")
        shell.run("fg")
        self.assertEqual(shell.ask("2 + 3"), "5")

    def test_a_restore_in_the_background_waits_for_the_foreground(self):
        first = Shell(33)
        pid = first.begin(self.job)
        settings = first.ask("be_silent()")
        self.dump(pid)
        shell = Shell(44)
        before = shell.settings()
        shell.run(f"{ENGINE} restore -j -D {self.images} &")
        wait_until(lambda: stat_of(pid)[:1] == ["T"], "its read stops it")
        self.assertEqual(shell.settings(), before)
        shell.run("fg")
        self.assertEqual(shell.ask("settings()"), settings)
        self.assertEqual(shell.ask("where()").split()[2], str(pid))

    def test_one_that_was_stopped_stays_so_until_the_shell_continues_it(self):
        first = Shell(33)
        pid = first.begin(self.job)
        first.type("\x1a")
        first.expect("Stopped")
        self.dump(pid)
        shell = Shell(44)
        self.restored(shell)
        shell.expect("Stopped")
        shell.expect("prompt> ")
        shell.run("fg")
        self.assertEqual(shell.ask("where()").split()[1:3], [str(pid), str(pid)])

    def test_who_was_in_the_group_of_somebody_else_joins_the_one_of_the_command(self):
        first = Shell(33)
        pid = first.begin(f"sh -c '{self.job}; true'")
        leader = int(stat_of(pid)[2])
        self.assertNotEqual(leader, pid)
        self.dump(pid)
        first.expect("prompt> ")
        shell = Shell(44)
        self.restored(shell)
        session, group, front = shell.ask("where()").split()[:3]
        self.assertEqual(session, str(shell.pid))
        self.assertEqual(group, front)
        self.assertEqual(stat_of(int(group))[1:2], [str(shell.pid)], "it is the command, a child of the shell")
        shell.interrupt(pid)
        shell.type("\x1a")
        shell.expect("Stopped")
        shell.run("fg")
        self.assertEqual(shell.ask("1 + 1"), "2")
        shell.run("sys.exit(5)")

    def test_the_keyboard_is_for_the_job_before_the_command_waits(self):
        first = Shell(33)
        pid = first.begin(f"sh -c '{self.job}; true'")  # in the group of the command then
        self.dump(pid)
        keys = self.script("for key in INT QUIT TSTP; do kill -$key $PPID; done", step="post-resume")
        shell = Shell(44)
        self.restored(shell, "--action-script", str(keys))
        self.assertEqual(shell.ask("1 + 1"), "2")
        shell.run("sys.exit(5)")
        shell.expect("ended 5")

    def test_a_pipeline_writes_to_the_new_terminal(self):
        script = self.place / "count.sh"
        # bash goes on when its `sleep` ends by itself just as it is interrupted: until nobody reads its lines.
        script.write_text("echo job $$; while sleep 0.02 && echo line $((n += 1)); do :; done 2> /dev/null | cat\n")
        pid, shell = self.moved(f"bash {script}")
        first = int(shell.expect(r"line (\d+)\r")[1])
        shell.expect(rf"line {first + 20}\r")
        shell.type("\x03")
        shell.expect("ended 130")
        self.assertEqual(stat_of(pid), [])

    def test_the_open_dev_tty_is_the_new_terminal(self):
        first = Shell(33)
        pid = first.begin(self.job)
        fd = first.ask('os.open("/dev/tty", os.O_RDWR)')
        self.dump(pid)
        shell = Shell(44)
        self.restored(shell)
        self.assertEqual(shell.ask(f"where({fd})").split()[2], str(pid))
        self.assertIn("through", shell.ask(f'os.write({fd}, b"through\\n") and "through"'))

    def test_descriptors_of_one_file_stay_one_file_and_are_not_the_shells(self):
        first = Shell(33)
        pid = first.begin(self.job)
        self.dump(pid)
        shell = Shell(44)
        self.restored(shell)
        shell.ask("fcntl.fcntl(0, fcntl.F_SETFL, os.O_RDWR | os.O_APPEND)")
        self.assertTrue(int(shell.ask("fcntl.fcntl(1, fcntl.F_GETFL)")) & os.O_APPEND)
        flags = Path(f"/proc/{shell.pid}/fdinfo/0").read_text()
        self.assertFalse(int(re.search(r"flags:\s+(\d+)", flags)[1], 8) & os.O_APPEND)

    def test_a_job_without_descriptors_of_its_terminal_keeps_it(self):
        first = Shell(33)
        pid = first.begin(f"sh -c 'echo job $$ > /dev/tty; exec sleep 300' < /dev/null > {self.output} 2>&1")
        self.dump(pid)
        shell = Shell(44)
        self.restored(shell)
        wait_until(lambda: stat_of(pid)[2:] and stat_of(pid)[5] == str(pid), "it is in the foreground")
        self.assertEqual(stat_of(pid)[3], str(shell.pid))
        shell.type("\x03")
        shell.expect("ended 130")

    def test_a_leader_of_a_session_becomes_a_member(self):
        first = Shell(33)
        pid = first.begin(f"exec {self.job}")
        self.assertEqual(pid, first.pid)
        self.dump(pid)
        self.assertEqual(stat_of(pid), [], "the dump has ended it")
        shell = Shell(44)
        self.restored(shell)
        self.assertEqual(shell.ask("where()"), f"{shell.pid} {pid} {pid} {shell.name} 33")
        shell.interrupt(pid)

    def test_it_runs_on_where_it_is(self):
        first = Shell(33)
        pid = first.begin(self.job)
        before = first.settings()
        self.dump(pid, "--leave-running")
        self.assertEqual(first.ask("where()"), f"{first.pid} {pid} {pid} {first.name} 33")
        self.assertEqual(first.settings(), before)
        os.kill(pid, signal.SIGKILL)
        first.expect("Killed")
        self.restored(first)
        self.assertEqual(first.ask("where()"), f"{first.pid} {pid} {pid} {first.name} 33")

    def test_detached_it_has_the_terminal_until_a_shell_takes_it(self):
        first = Shell(33)
        pid = first.begin("sh -c 'echo job $$; while sleep 0.02; do echo line $((n += 1)); done'")
        first.expect("line 5")
        self.dump(pid)
        shell = Shell(44)
        self.restored(shell, "-d")
        shell.expect("ended 0")
        line = int(shell.expect(r"line (\d+)\r")[1])
        shell.expect(f"line {line + 20}\r")
        self.assertEqual(stat_of(pid)[3:6], [str(shell.pid), stat_of(shell.pid)[4], str(shell.pid)])
        os.killpg(pid, signal.SIGKILL)
        wait_until(lambda: self.reap_orphans() or all(stat_of(p)[2:3] != [str(pid)] for p in others()), "its group is gone")
        shell.run(f"sh -c '{ENGINE} restore -j -d -D {self.images}; exec sleep 300'")
        shell.expect(rf"line {line}\r")
        wait_until(lambda: stat_of(pid)[5:6] == [str(pid)], "it is in the foreground")
        shell.type("\x03")
        wait_until(lambda: stat_of(pid)[:1] in ([], ["Z"]), "the keyboard ends it")

    def test_a_restore_that_fails_gives_the_terminal_back(self):
        first = Shell(33)
        pid = first.begin(self.job)
        first.ask("be_silent()")
        self.dump(pid)
        script = self.script(f"stty -a > {self.place}/settings < /dev/tty", "exit 1", step="post-restore")
        shell = Shell(44)
        shell.run(f"cd {self.place}; sh -c 'stty -a > before; {ENGINE} restore -j -D images --action-script {script}; stty -a > after'; "
                  "echo ended $((1 + 1))")
        shell.expect("ended 2")
        read = lambda name: (self.place / name).read_text()  # noqa: E731
        self.assertIn(" -echo ", read("settings").replace("\n", " "))
        self.assertIn("rows 33", read("settings"))
        self.assertEqual(read("after"), read("before"))
        self.assertEqual(stat_of(pid), [])

    def assert_refused(self, words: list, *said: str, status: int = 3, **more) -> None:
        done = subprocess.run([ENGINE, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=WITHIN, cwd=self.place, **{"stdin": subprocess.DEVNULL, **more})
        self.assertEqual(done.returncode, status, done.stdout)
        for word in said:
            self.assertIn(word, done.stdout)

    def test_what_cannot_be_carried_is_named(self):
        first, other = Shell(33), Shell(30)
        pid = first.begin(self.job)
        self.assert_refused(["dump", "-t", pid, "-D", "none"], "held by another process", "--shell-job")
        fd = first.ask(f'os.open("{other.name}", os.O_RDWR | os.O_NOCTTY)')
        self.assert_refused(["dump", "-j", "-t", pid, "-D", "none"], "several terminals", first.name, other.name)
        first.ask(f"os.close({fd})")
        slave = first.ask("[pair := os.openpty()] and os.ttyname(pair[1])")
        with open(slave, "r+b", buffering=0, opener=without_control):
            self.assert_refused(["dump", "-j", "-t", pid, "-D", "none"], f"the terminal is also open in process {os.getpid()}")
        self.assertEqual(first.ask("6 * 7"), "42")

    def test_a_session_of_its_own_on_a_terminal_from_outside_is_named(self):
        other = Shell(30)
        master, slave = pty.openpty()
        name = os.ttyname(slave)
        os.close(slave)
        self.addCleanup(os.close, master)
        pid = other.begin(f"sh -c 'echo job $$; setsid sh -c \"exec sleep 300 < {name}\"; true' < /dev/null 2> /dev/null | cat")
        child = wait_until(lambda: Path(f"/proc/{pid}/task/{pid}/children").read_text(), "its child")
        wait_until(lambda: stat_of(int(child))[4] != "0", "it has a terminal")
        self.assert_refused(["dump", "-j", "-t", pid, "-D", "none"], f"{name}, whose other end", "which is not that of")

    def test_a_restore_needs_a_terminal_to_exchange(self):
        first = Shell(33)
        pid = first.begin(self.job)
        self.dump(pid)
        restore = ["restore", "-D", self.images]
        self.assert_refused(restore, "a terminal of somebody else's", "--shell-job")
        self.assert_refused([*restore, "-j"], "standard input is no terminal")
        with open(first.name, "r+b", buffering=0, opener=without_control) as terminal:
            self.assert_refused([*restore, "-j"], "not the controlling terminal of this session", stdin=terminal)
        self.assert_refused([*restore, "-j", "-n"], "--shell-job and --namespaces exclude each other", status=2)
        self.assert_refused([*restore, "-j", "-d", "-s"], "told to hang up", status=2)
        self.assertEqual(stat_of(pid), [])

    def test_a_stopped_job_is_not_restored_where_nobody_waits_for_it(self):
        first = Shell(33)
        pid = first.begin(self.job)
        first.type("\x1a")
        first.expect("Stopped")
        self.dump(pid)
        shell = Shell(44)
        self.restored(shell, "-d")
        shell.expect(f"process {pid} is stopped")
        shell.expect("ended 3")


if __name__ == "__main__":
    main()
