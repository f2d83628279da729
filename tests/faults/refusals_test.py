#!/usr/bin/python3
"""The destination refuses. The source never notices: its process is not stopped, not even for an instant, and goes on."""

import re
import threading
import time
import unittest
from contextlib import contextmanager
from pathlib import Path

from bed import REDIS, outside, report_of
from fault_case import BedCase
from godwit_lab import daemons

TICKER = str(Path(__file__).resolve().parent / "ticker.py")
REFUSED = 3
LONGEST_GAP_MS = 500  # of a ticker on a busy machine


class Refusals(BedCase):
    def ticks(self, name: str) -> tuple[int, float, int]:
        """How often it has ticked, its longest gap in ms, how often SIGCONT came."""
        words = outside.read(self.bed.lab.state / "shared" / name).split()
        return (int(words[0]), float(words[1]), int(words[2])) if len(words) == 3 else (0, 0, 0)

    def start_workload(self, name: str, *files: str) -> int:
        return self.start_command(name, "python3", TICKER, f"/srv/shared/{name}", *files)

    def start_command(self, name: str, *command: str) -> int:
        done = daemons.godwit(self.bed.lab, "run", "--name", name, "--on", "h1", "--", *command)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.addCleanup(daemons.godwit, self.bed.lab, "kill", name, "--signal", "9")
        self.assertTrue(outside.wait_until(lambda: self.ticks(name)[0] > 0, 10), "it does not tick")
        return self.pid_of(name)

    def start_outside(self, name: str) -> tuple[int, int]:
        """A process that Godwit has not started, in the host's own namespaces: its PID there, and as the machine sees it."""
        inside = self.bed.on("h1", "sh", "-c", f"setsid -f python3 {TICKER} /srv/shared/{name} > /dev/null 2>&1 < /dev/null; "
                             f"sleep 0.3; pgrep -f '[t]icker.py /srv/shared/{name}$'")
        self.assertTrue(outside.wait_until(lambda: self.ticks(name)[0] > 0, 10), "it does not tick")
        self.addCleanup(self.bed.on, "h1", "sh", "-c", f"kill -9 {inside.split()[0]} || true")
        return int(inside.split()[0]), self.pid_of(name)

    def pid_of(self, name: str) -> int:
        for pid in outside.copies(self.bed.lab, "h1", "python3"):
            if f"/srv/shared/{name}" in outside.read(f"/proc/{pid}/cmdline").split("\0"):
                return pid
        self.fail(f"there is no process of {name}")

    def assert_refused(self, name: str, workload: str, pid: int, because: str, *options: str, tcp_close: bool = True):
        ticks_before, _, _ = self.ticks(name)
        group = outside.read(f"/proc/{pid}/cgroup")
        with Glances(pid) as glances:
            code, said = self.bed.try_migrate(workload, "h2", *options, tcp_close=tcp_close)
        self.assertEqual(code, REFUSED, said)
        self.assertRegex(report_of(said)["reason"]["message"], because)
        time.sleep(0.5)
        ticks, gap, continued = self.ticks(name)
        self.assertGreater(ticks, ticks_before)
        self.assertLess(gap, LONGEST_GAP_MS)
        self.assertEqual(continued, 0, "SIGCONT came")
        self.assertEqual(glances.stops, 0, "it was seen stopped")
        self.assertEqual(outside.read(f"/proc/{pid}/cgroup"), group)
        self.assertTrue(outside.wait_until(lambda: not self.left(), 10, 0.1), self.left())

    def left(self) -> list[str]:
        return [f"{group.name} on {host}" for host in ("h1", "h2") for group in self.bed.lab.cgroup(host).iterdir()
                if group.suffix in (".src", ".dst")]

    def test_a_file_that_is_missing_there(self):
        self.bed.on("h1", "sh", "-c", "echo here > /var/lib/only-here")
        pid = self.start_workload("missing", "/var/lib/only-here")
        self.assert_refused("missing", "missing", pid, "/var/lib/only-here")

    def test_a_file_that_is_another_one_there(self):
        for host in ("h1", "h2"):
            self.bed.on(host, "sh", "-c", f"head -c {100 if host == 'h1' else 99} /dev/zero > /var/lib/differs")
        pid = self.start_workload("differs", "/var/lib/differs")
        self.assert_refused("differs", "differs", pid, "/var/lib/differs")

    def test_a_file_that_would_be_written_on_both_hosts(self):
        self.bed.on("h1", "touch", "/var/lib/written")
        command = ["python3", TICKER, "/var/lib/written"]
        self.assertEqual(daemons.godwit(self.bed.lab, "run", "--name", "written", "--on", "h1", "--", *command).returncode, 0)
        self.addCleanup(daemons.godwit, self.bed.lab, "kill", "written", "--signal", "9")
        time.sleep(0.5)
        code, said = self.bed.try_migrate("written", "h2")
        self.assertEqual(code, REFUSED, said)
        self.assertRegex(said, "shared|share")

    def test_connections_unless_they_may_be_closed(self):
        connect = ("import runpy, socket; server = socket.create_server(('127.0.0.1', 7777)); "
                   "client = socket.create_connection(('127.0.0.1', 7777)); accepted = server.accept(); "
                   f"runpy.run_path('{TICKER}', run_name='__main__')")
        pid = self.start_command("connected", "python3", "-c", connect, "/srv/shared/connected")
        self.assert_refused("connected", "connected", pid, r"127\.0\.0\.1:7777", tcp_close=False)
        code, said = self.bed.try_migrate("connected", "h2")
        self.assertEqual(code, 0, said)

    def test_a_pid_that_is_taken_there(self):
        inside, pid = self.start_outside("taken")
        squatter = self.bed.on("h2", "sh", "-c", f"echo {inside - 1} > /proc/sys/kernel/ns_last_pid; "
                               "setsid -f sleep 60 > /dev/null 2>&1 < /dev/null; sleep 0.2; pgrep -n sleep").split()[0]
        self.addCleanup(self.bed.on, "h2", "kill", squatter)
        # setsid forks once more: what matters is that the number is in use.
        self.bed.on("h2", "sh", "-c", f"test -d /proc/{inside} || (echo {inside - 1} > /proc/sys/kernel/ns_last_pid; "
                    "sleep 60 > /dev/null 2>&1 < /dev/null & test $! = " + str(inside) + ")")
        self.assert_refused("taken", str(inside), pid, f"PID {inside}", "--from", "h1")

    def test_a_fifo_that_somebody_has_open_there(self):
        for host in ("h1", "h2"):
            self.bed.on(host, "mkfifo", "/var/lib/fifo")
        pid = self.start_command("fifo", "sh", "-c", f"exec 3<> /var/lib/fifo; exec python3 {TICKER} /srv/shared/fifo")
        stranger = self.bed.on("h2", "sh", "-c", "sleep 60 <> /var/lib/fifo > /dev/null 2>&1 & echo $!").strip()
        self.assert_refused("fifo", "fifo", pid, f"/var/lib/fifo is open in process {stranger}")
        self.bed.on("h2", "kill", stranger)
        code, said = self.bed.try_migrate("fifo", "h2")
        self.assertEqual(code, 0, said)

    # Whether the spool has room is found out when it is filled: agent/transfer has the test (FullSpool).
    def test_less_memory_available_than_the_workload_and_its_spool_need(self):
        pid = self.start_workload("large")
        self.assert_refused("large", "large", pid, "memory", "--spool", "1000G")

    @contextmanager
    def older_cpu(self, host: str, without: str, xfeatures: str):
        """As if the CPU of a host had not this flag, and no more register state than this."""
        flags = re.sub(rf"(?m)^(flags\s.*) {without}( |$)", r"\1\2", Path("/proc/cpuinfo").read_text())
        (self.bed.lab.state / "shared" / "cpuinfo").write_text(flags)
        self.bed.on(host, "mount", "--bind", "/srv/shared/cpuinfo", "/proc/cpuinfo")
        with self.bed.daemons_with({host: {"GODWIT_XFEATURES": xfeatures}}):
            try:
                yield
            finally:
                self.bed.on(host, "umount", "/proc/cpuinfo")  # before its agent looks again

    def test_a_cpu_that_lacks_what_the_workload_may_use(self):
        bed = self.bed
        bed.run_redis()
        self.addCleanup(daemons.godwit, bed.lab, "kill", REDIS, "--signal", "9")
        pid = outside.copies(bed.lab, "h1", "redis-server")[0]
        with self.older_cpu("h2", without="ssse3", xfeatures="0x3"), bed.writing() as load:  # x87 and SSE
            with Glances(pid) as glances:
                done = daemons.godwit(bed.lab, "migrate", REDIS, "--to", "h2", "--tcp-close")
                time.sleep(0.5)
            self.assertEqual(done.returncode, REFUSED, done)
            self.assertRegex(done.stdout, r"(?m)^reason: .*register state is in use that this CPU does not have: xfeatures 0x\w+ "
                             r"of 0x\w+; a program may have found more on the source's CPU: its CPU lacks ssse3 "
                             r"\[refused\]\nhint: read the sentence")
            self.assertEqual(glances.stops, 0, "it was seen stopped")
            self.assertEqual(outside.copies(bed.lab, "h1", "redis-server"), [pid])
            self.assertTrue(outside.wait_until(lambda: not self.left(), 10, 0.1), self.left())
        self.assertEqual(load.verdict["lost"], 0, load.verdict)
        self.assertGreater(load.report["acknowledged"], 0)
        self.assertLess(load.longest_gap_ms, LONGEST_GAP_MS)
        code, said = bed.try_migrate(REDIS, "h2")
        self.assertEqual(code, 0, said)

    def test_and_what_was_not_refused_moves(self):
        self.start_workload("moves")
        code, said = self.bed.try_migrate("moves", "h2")
        self.assertEqual(code, 0, said)
        before = self.ticks("moves")[0]
        self.assertTrue(outside.wait_until(lambda: self.ticks("moves")[0] > before, 10), "it does not tick any more")
        self.assertEqual(self.ticks("moves")[2], 0, "SIGCONT came")


class Glances:
    """Looks at a process as often as possible; counts how often it was stopped or traced."""

    def __init__(self, pid: int):
        self._pid, self._stop, self.stops = pid, threading.Event(), 0

    def __enter__(self) -> "Glances":
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join(10)

    def _look(self) -> None:
        while not self._stop.wait(0.001):
            if outside.state_of(self._pid) in (outside.STOPPED, outside.TRACED) or outside.is_frozen(self._pid):
                self.stops += 1


if __name__ == "__main__":
    unittest.main(verbosity=2)
