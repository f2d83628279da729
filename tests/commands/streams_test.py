#!/usr/bin/python3
"""Standard input, output and error that are closed, full, or nobody's: nothing else becomes one of them, and what could not be
printed is a failure."""

import os
import signal
import subprocess
from pathlib import Path

from command_case import BIN, ENGINE, GODWIT, CommandCase, main, wait_until
from page_streams import free_port

FULL = "/dev/full"
CLOSED = 'exec "$0" "$@" <&- >&- 2>&-'


class Streams(CommandCase):
    def shell(self, script: str, *words: object) -> subprocess.CompletedProcess:
        """`script` has the program in $0, and the words."""
        return self.run_command("-c", script, *words, program="sh")

    def opened(self, pid: int) -> list[str]:
        """What the first three descriptors are."""
        return [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)]

    def test_what_cannot_be_printed_is_a_failure(self):
        pid = self.start()
        self.must("dump", "-t", pid, "-D", "1", "-R")
        for words in (("check",), ("image", "show", "1"), ("image", "show", "1/inventory.img"), ("survey", "-t", pid),
                      ("survey", "--json", "-t", pid), ("dump", "--help")):
            for where in (f">{FULL}", ">&-", f">{FULL} <&-"):
                with self.subTest(words, where=where):
                    done = self.shell(f'exec "$0" "$@" {where}', ENGINE, *words)
                    self.assertEqual(done.returncode, 1, done.stdout)
                    self.assertRegex(done.stdout, "standard output.*(No space left|Bad file|not everything)")

    def test_nor_is_the_rest_lost_when_nothing_was_to_be_printed(self):
        pid = self.start()
        for number, where in enumerate((f">{FULL}", ">&-")):
            done = self.shell(f'exec "$0" "$@" {where}', ENGINE, "dump", "-t", pid, "-D", number)
            self.assertEqual((done.returncode, done.stdout), (0, ""))
            self.assert_ended(pid)
            done = self.shell(f'exec "$0" "$@" {where}', ENGINE, "restore", "-d", "-D", number)
            self.assertEqual((done.returncode, done.stdout), (0, ""))
            self.assert_runs_on(pid)

    def test_what_is_said_goes_into_no_image(self):
        pid = self.start()
        script = self.place / "script"
        script.write_text(f"#!/bin/sh\nls -l /proc/$PPID/fd > {self.place}/seen-$CRTOOLS_SCRIPT_ACTION\n")
        script.chmod(0o755)
        closed = lambda *words: self.assertEqual(self.shell(CLOSED, *words).returncode, 0)  # noqa: E731
        for program in (ENGINE, GODWIT):
            closed(program, "dump", "-v4", "-t", pid, "-D", "1", "--action-script", script)
            self.assert_ended(pid)
            for image in (self.place / "1").iterdir():
                self.assertNotIn(b"action.script", image.read_bytes(), image.name)
            closed(program, "restore", "-v4", "-d", "-D", "1", "--action-script", script)
            self.assert_runs_on(pid)
            for step in ("post-dump", "post-restore"):
                listed = (self.place / f"seen-{step}").read_text()
                self.assertEqual([line.split()[-3:] for line in listed.splitlines() if line.split()[-3:-2] in (["0"], ["1"], ["2"])],
                                 [[str(fd), "->", "/dev/null"] for fd in (0, 1, 2)])

    def test_a_log_that_nobody_reads_any_more_ends_no_command(self):
        pid = self.start()
        script = self.place / "script"
        script.write_text(f"#!/bin/sh\ngrep SigIgn /proc/self/status > {self.place}/ignored\n")
        script.chmod(0o755)
        unread = self.nobody_reads()
        with_log = ("-v4", "--action-script", script)
        for words in (("pre-dump", "-t", pid, "-D", "0"), ("dump", "-t", pid, "-D", "1"), ("restore", "-d", "-D", "1")):
            done = subprocess.run([ENGINE, *map(str, words), *map(str, with_log)], cwd=self.place, stderr=unread)
            self.assertEqual(done.returncode, 0, words)
            if words[0] == "dump":
                self.assert_ended(pid)
        self.assert_runs_on(pid)
        ignored = int((self.place / "ignored").read_text().split()[1], 16)
        self.assertFalse(ignored & 1 << signal.SIGPIPE - 1, "scripts inherit it")

    def test_nor_a_page_server(self):
        pid = self.start()
        port = free_port()
        (self.place / "pages").mkdir()
        ready, status = os.pipe()
        with subprocess.Popen([GODWIT, "page-server", "-v4", "-D", "pages", "--port", str(port), "--status-fd", str(status)],
                              cwd=self.place, stderr=self.nobody_reads(), pass_fds=[status]) as server:
            os.close(status)
            self.assertEqual(os.read(ready, 1), b"\0")
            os.close(ready)
            self.must("pre-dump", "-t", pid, "-D", "1", "--page-server", "--port", port, program=GODWIT)
        self.assertEqual(server.returncode, 0)
        self.assert_runs_on(pid)

    def test_every_program_opens_what_it_has_not(self):
        """Each is stopped by a file that it reads first, and that does not come."""
        certificates = self.place / "certificates"
        certificates.mkdir()
        for name in ("ca.crt", "node.crt", "node.key"):
            os.mkfifo(certificates / name)
        os.mkfifo(self.place / "inventory.img")
        daemon = ("--certs", certificates, "--state", self.place / "state")
        address = "127.0.0.1:1"
        for program, *words in (
                (ENGINE, "image", "show", "inventory.img"), (GODWIT, "image", "show", "inventory.img"),
                (GODWIT, "--certs", certificates, "ps"), (BIN / "godwit-coordinator", *daemon),
                (BIN / "godwit-agent", "--node", "a", "--coordinator", address, "--listen", "127.0.0.1:0", "--pages",
                 "127.0.0.1:0", "--cgroup", self.place / "group", *daemon),
                (BIN / "godwit-pageserver", "--control-fd", "0", "--listen", "127.0.0.1:0", "--certs", certificates),
                (GODWIT, "page-server", "--tls", "--tls-cacert", certificates / "ca.crt")):
            with self.subTest(program, words=words):
                child = subprocess.Popen(["sh", "-c", CLOSED, str(program), *map(str, words)], cwd=self.place)
                try:
                    wait_until(lambda: self.waits_for_a_file(child), "it reads")
                    self.assertEqual(self.opened(child.pid), ["/dev/null"] * 3)
                finally:
                    child.kill()
                    child.wait()

    def waits_for_a_file(self, child: subprocess.Popen) -> bool:
        """That does not come: it stands in openat(2). So does a program that is still being loaded, with nothing open."""
        self.assertIsNone(child.poll(), "it has ended")
        return Path(f"/proc/{child.pid}/syscall").read_text().split()[0] == "257" and \
            Path(f"/proc/{child.pid}/comm").read_text() != "sh\n" and Path(f"/proc/{child.pid}/fd/2").is_symlink()


if __name__ == "__main__":
    main()
