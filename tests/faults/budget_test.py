#!/usr/bin/python3
"""A workload that writes faster than its pages can be sent: the budget is kept, or the pause is taken when that is asked
for, or the workload is given less CPU time. It gets all of it back, and loses no page."""

import signal
import subprocess
import time
from pathlib import Path

from bed import REDIS, outside, report_of
from fault_case import BedCase, main
from godwit_lab import daemons, wire
from godwit_lab.hosts import COORDINATOR

WRITER = str(Path(__file__).resolve().parent / "writer.py")
PAGE = 4096
MEBIBYTES = {"shared": 32, "private": 16}
QUICK = ("sent_by_more_rounds", "slow_in_the_pause", "when_forced", "agent_that_dies")
LOOPS = {"shared": 0, "private": 5000}  # as fast as it can, or some MiB/s, in proportion to its CPU time
ENGINE_HEARS_S = 0.5
LONGEST_PAUSE_MS = 2 * 500 + 2000  # of a budget of 500 ms
GAP_MS = 500  # what a client sees beyond the pause


class Budget(BedCase):
    def start(self, name: str, kind: str) -> None:
        self.control = self.bed.lab.state / "shared" / f"{name}.rest"
        self.control.unlink(missing_ok=True)
        command = ["python3", WRITER, kind, str(MEBIBYTES[kind]), str(LOOPS[kind]), f"/srv/shared/{name}.rest",
                   f"/srv/shared/{name}"]
        done = daemons.godwit(self.bed.lab, "run", "--name", name, "--on", "h1", "--", *command)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.addCleanup(daemons.godwit, self.bed.lab, "kill", name, "--signal", "9")
        self.everything = (MEBIBYTES[kind] << 20) // PAGE
        self.assertTrue(outside.wait_until(lambda: self.report(name)[0] > self.everything, 60), "it does not write")

    def begin_with_progress(self, name: str, *options: str) -> subprocess.Popen:
        """What it says meanwhile, and then its report."""
        return self.bed.start(COORDINATOR, "godwit", "migrate", name, "--to", "h2", "--json", *options,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def report(self, name: str) -> tuple[int, int]:
        """Pages written, and pages that were wrong."""
        words = outside.read(self.bed.lab.state / "shared" / name).split()
        return (int(words[0]), int(words[1])) if len(words) == 2 else (0, 0)

    def rate(self, name: str) -> float:
        """Bytes written per second: whole pages, since those are sent."""
        begin, before = time.monotonic(), self.report(name)[0]
        time.sleep(1)
        return (self.report(name)[0] - before) * PAGE / (time.monotonic() - begin)

    def assert_goes_on(self, name: str, at: str) -> None:
        written = self.report(name)[0]
        again = outside.wait_until(lambda: self.report(name)[0] > written + self.everything, 60)
        self.assertTrue(again, "it has not looked at each page again")
        self.assertEqual(self.report(name)[1], 0, "pages are wrong")
        self.assertEqual(len(outside.running(self.bed.lab, at, "python3")), 1)
        self.assertEqual(len(outside.copies(self.bed.lab, "h2" if at == "h1" else "h1", "python3")), 0)
        self.assertEqual(self.limited(), [])

    def limited(self) -> list[str]:
        """Groups and notes of limits on somebody's CPU time."""
        notes = [str(note) for host in self.bed.lab.nodes
                 for note in Path(f"/proc/{host.pid}/root/var/lib/godwit/limits").iterdir()]
        groups = [str(group) for group in Path("/sys/fs/cgroup").glob("*cpu*/**/godwit.2*.src")]
        return notes + groups

    def noted(self) -> tuple[str, str] | None:
        """The file of a limit, and what is in it without; once the note of it is whole."""
        for note in self.limited():
            words = outside.read(note).splitlines()
            if len(words) >= 2:
                return words[0], words[1]
        return None

    def test_a_difference_that_stays_too_large_is_not_frozen(self):
        self.start("large", "shared")
        code, said = self.bed.try_migrate("large", "h2", "--rate-limit", "50M", "--downtime", "100ms")
        self.assertEqual(code, 1, said)
        self.assertIn("the last difference was too large 3 times", said)
        self.assert_goes_on("large", "h1")

    def test_what_a_probe_says_refuses_a_dry_run_and_a_migration(self):
        self.start("probed", "private")
        asked = ("--probe", "2s", "--rate-limit", str(int(self.rate("probed") / 4)), "--on-no-progress", "force")
        code, said = self.bed.try_migrate("probed", "h2", "--dry-run", *asked)
        self.assertEqual(code, 3, said)
        preview = report_of(said)
        self.assertIn("if it goes on writing as by the probe", preview["obstacles"][0]["message"])
        self.assertEqual(len(preview["dirty"]), 3)
        code, said = self.bed.try_migrate("probed", "h2", *asked)
        self.assertEqual(code, 3, said)
        self.assertEqual(report_of(said)["outcome"], "refused")
        self.assert_goes_on("probed", "h1")
        self.control.touch()
        time.sleep(0.5)
        code, said = self.bed.try_migrate("probed", "h2", "--dry-run", *asked)
        self.control.unlink()
        self.assertEqual(code, 0, said)

    def test_an_engine_that_dies_in_a_probe_leaves_the_workload_running(self):
        self.start("unharmed", "private")
        probe = self.bed.begin_migrate("unharmed", "h2", "--dry-run", "--probe", "10s")
        engines = lambda: outside.copies(self.bed.lab, "h1", "godwit-engine")
        self.assertTrue(outside.wait_until(lambda: bool(engines()), 20), "nothing probes it")
        time.sleep(1)
        outside.kill(engines())
        said = probe.communicate(timeout=60)[0]
        self.assertEqual(probe.returncode, 3, said)
        self.assert_goes_on("unharmed", "h1")

    def test_a_difference_that_is_too_large_at_first_is_sent_by_more_rounds(self):
        self.start("calms", "shared")
        migration = self.begin_with_progress("calms", "--rate-limit", "50M", "--downtime", "150ms")
        said = ""
        while "it runs on" not in said and (line := migration.stdout.readline()):
            said += line
        self.control.touch()
        said += migration.communicate(timeout=120)[0]
        self.control.unlink()
        self.assertIn("it runs on", said)
        self.assertEqual(migration.returncode, 0, said)
        self.assertLess(report_of(said)["downtime_ms"], 1000)
        self.assert_goes_on("calms", "h2")

    def test_a_link_that_becomes_slow_in_the_pause_does_not_make_it_long(self):
        """The pages that are caught up with find the link slow, so more is left for the pause than is sent in it."""
        self.bed.run_redis()
        self.addCleanup(daemons.godwit, self.bed.lab, "kill", REDIS, "--signal", "9")
        self.addCleanup(self.bed.mend)
        h2, switch = self.bed.lab.hosts["h2"], self.bed.lab.switch
        with self.bed.writing() as load:
            self.bed.arm("h1", "agent.source.frozen=stop")
            migration = self.begin_with_progress(REDIS, "--tcp-close", "--downtime", "500ms")
            self.assertTrue(outside.wait_until(lambda: self.bed.is_stopped("h1"), 60), "it is not frozen")
            wire.limit(switch, h2.pid, h2.name, 2)
            self.bed.signal_daemon("h1", signal.SIGCONT)
            said = ""
            while "has not been sent after" not in said and (line := migration.stdout.readline()):
                said += line
            wire.limit(switch, h2.pid, h2.name, 0)
            said += migration.communicate(timeout=120)[0]
        self.assertIn("has not been sent after", said)
        self.assertEqual(migration.returncode, 0, said)
        self.assertLess(load.longest_gap_ms, LONGEST_PAUSE_MS + GAP_MS)
        self.assertEqual(load.verdict["lost"], 0, load.verdict)
        self.assertEqual(self.bed.where(), "h2")

    def test_a_round_does_not_outlast_the_time_for_the_whole_migration(self):
        self.start("late", "private")
        begin = time.monotonic()
        code, said = self.bed.try_migrate("late", "h2", "--rate-limit", "500K", "--max-total-time", "4s")
        self.assertEqual(code, 1, said)
        self.assertIn("the time for the whole migration, 4 s, is over in round 0", said)
        self.assertLess(time.monotonic() - begin, 10)  # a round takes half a minute
        self.assert_goes_on("late", "h1")

    def test_it_is_frozen_all_the_same_when_forced(self):
        self.start("forced", "shared")
        options = ["--rate-limit", "50M", "--downtime", "100ms", "--on-no-progress", "force"]
        code, said = self.bed.try_migrate("forced", "h2", *options)
        self.assertEqual(code, 0, said)
        self.assertGreater(report_of(said)["downtime_ms"], 100)
        self.assert_goes_on("forced", "h2")

    def test_a_stop_and_copy_takes_what_it_takes(self):
        self.start("stopped", "private")
        code, said = self.bed.try_migrate("stopped", "h2", "--max-rounds", "0", "--rate-limit", "250K", timeout=300)
        self.assertEqual(code, 0, said)
        self.assertGreater(report_of(said)["downtime_ms"], 60_000)
        self.assert_goes_on("stopped", "h2")

    def test_less_cpu_time_lets_it_move(self):
        self.start("throttled", "private")
        before = self.rate("throttled")
        migration = self.begin_with_progress("throttled", "--rate-limit", str(int(before / 2)), "--downtime", "500ms",
                                             "--on-no-progress", "throttle")
        said = migration.communicate(timeout=300)[0]
        self.assertEqual(migration.returncode, 0, said)
        self.assertIn("% of its CPU time", said)
        self.assertLess(report_of(said)["downtime_ms"], 1500)
        self.assertGreater(self.rate("throttled"), before / 4, "it is throttled still")
        self.assert_goes_on("throttled", "h2")

    def test_a_cancel_gives_it_all_of_its_cpu_time_again(self):
        self.start("cancelled", "private")
        before = self.rate("cancelled")
        migration = self.bed.begin_migrate("cancelled", "h2", "--rate-limit", str(int(before / 4)),
                                           "--on-no-progress", "throttle", "--max-rounds", "1")
        self.assertTrue(outside.wait_until(self.limited, 120), "it is not throttled")
        self.assertEqual(daemons.godwit(self.bed.lab, "cancel", "cancelled").returncode, 0)
        self.assertEqual(migration.wait(60), 1)
        self.assertGreater(self.rate("cancelled"), before / 4)
        self.assert_goes_on("cancelled", "h1")

    def test_an_agent_that_dies_leaves_nothing_throttled(self):
        self.start("orphan", "private")
        before = self.rate("orphan")
        migration = self.bed.begin_migrate("orphan", "h2", "--rate-limit", str(int(before / 4)),
                                           "--on-no-progress", "throttle", "--max-rounds", "1")
        noted = outside.wait_until(self.noted, 120)
        self.assertTrue(noted, "it is not throttled")
        file, lifted = noted
        self.assertTrue(outside.wait_until(lambda: not outside.read(file).startswith(lifted), 10), "nothing limits it")
        time.sleep(ENGINE_HEARS_S)  # one that dies before leaves it to its next life
        self.bed.kill_daemon("h1")
        self.assertTrue(outside.wait_until(lambda: outside.read(file).startswith(lifted), 20), "its engine has not lifted it")
        self.bed.start_daemon("h1")
        self.bed.wait_until_registered()
        migration.wait(90)
        self.assert_goes_on("orphan", "h1")

    def test_a_rate_is_changed_while_pages_are_sent(self):
        self.start("hurried", "private")
        self.control.touch()
        migration = self.bed.begin_migrate("hurried", "h2", "--rate-limit", "200K")  # minutes
        self.assertTrue(outside.wait_until(lambda: daemons.godwit(self.bed.lab, "rate", "hurried", "0").returncode == 0, 20))
        begin = time.monotonic()
        said = migration.communicate(timeout=60)[0]
        self.assertEqual(migration.returncode, 0, said)
        self.assertLess(time.monotonic() - begin, 30)
        self.control.unlink()
        self.assert_goes_on("hurried", "h2")


if __name__ == "__main__":
    main(QUICK)
