#!/usr/bin/python3
"""Migrations back and forth, one after the other, while something is wrong all the time: commands that come late, twice or
long after their migration is over, what the agents answer and report as well, and what they say to each other; disks that take
their time; links that are slow. The same must hold as after any fault."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from bed import COORDINATOR, REDIS, REPOSITORY
from cell_run import PATIENT, End, await_end, run_cell
from cells import Fault, named_cells
from fault_case import FaultCase, main
from godwit_lab import wire
from relay import ANSWERS_IN_DISORDER, DISORDER, FORMER

QUICK = ("there_and_back", "fsync", "all_of_that_at_once", "meets_a_commit_that_is_cut_off")
SEED = 4
SLOW_SYNC = Path(os.environ.get("GODWIT_BIN", REPOSITORY / "build/release/bin")).parent / "tests/slow_sync.so"
# Where somebody who has just recorded is killed, or cannot record.
SLOWED = named_cells((("arming", "source is killed"), ("committing", "destination is killed"),
                      ("killing", "coordinator is killed"), ("asking", "source is killed")))


class Ways(FaultCase):
    @contextmanager
    def relays(self, *habits: str):
        """The coordinator and the agents hear each other through somebody who has each of these habits, and follows it."""
        with self.bed.relays(SEED, *habits) as done:
            yield done
        for habit in habits:
            self.assertGreater(done[habit], 0, f"nothing was {habit}")

    def go_back_and_forth(self, trips: int, codes: tuple[int, ...] = (0,)) -> None:
        bed = self.bed
        with bed.writing() as load:
            with self.watching() as watch:
                for _ in range(trips):
                    source = bed.where()
                    code, said = bed.try_migrate(REDIS, bed.other(source), *PATIENT)
                    self.assertIn(code, codes, said)
                    end = await_end(bed, may_be_gone=False)
                    self.assertEqual(end.problems, [], said)
                    self.assertEqual(end.at, source if code else bed.other(source), said)
                self.assert_settled(bed.where(), watch)
        self.assert_nothing_lost(load, longest_gap_ms=None)

    def test_there_and_back_and_there_at_once(self):
        self.go_back_and_forth(6)

    def test_an_fsync_takes_10_ms(self):
        with self.slow_disks():
            self.go_back_and_forth(2)

    def test_the_disks_are_slow_and_somebody_dies(self):
        with self.slow_disks():
            for phase, fault in SLOWED:
                self.check_end(lambda: self.struck(phase, fault))

    @contextmanager
    def slow_disks(self):
        """Whatever a daemon brings to its disk takes 10 ms longer."""
        bed = self.bed
        shared = bed.lab.state / "shared"
        shutil.copy(SLOW_SYNC, shared)  # hosts see it there only
        slow = {host.name: {"LD_PRELOAD": f"/srv/shared/{SLOW_SYNC.name}", "GODWIT_SYNC_MS": "10",
                            "GODWIT_SYNC_LOG": f"/srv/shared/syncs-{host.name}"} for host in bed.lab.with_daemon}
        with bed.daemons_with(slow):
            yield
        for host in slow:
            log = shared / f"syncs-{host}"
            self.assertGreater(log.stat().st_size, 3, f"{host} has brought nothing to its disk")
            log.unlink()

    def struck(self, phase: str, fault: Fault) -> End:
        end = run_cell(self.bed, phase, fault)
        self.assertEqual(end.problems, [], end.said)
        return end

    def test_the_links_are_slow(self):
        bed = self.bed
        try:
            for host in bed.lab.nodes:
                wire.limit(bed.lab.switch, host.pid, host.name, 100)
            self.go_back_and_forth(2)
        finally:
            bed.mend()

    def test_commands_are_late(self):
        with self.relays("late"):
            self.go_back_and_forth(2)

    def test_commands_come_twice(self):
        with self.relays("twice"):
            self.go_back_and_forth(4)

    def test_commands_come_twice_and_overtake_each_other(self):
        with self.relays("late", "twice"):
            self.go_back_and_forth(6)

    def test_commands_of_old_migrations_come_again(self):
        with self.relays("old"):
            self.go_back_and_forth(6)

    def test_commands_do_all_of_that_at_once(self):
        with self.relays("late", "twice", "old"):
            self.go_back_and_forth(6)

    def test_answers_come_late_and_twice(self):
        with self.relays("answers-late", "answers-twice"):
            self.go_back_and_forth(3)

    def test_answers_of_former_connections_come_again(self):
        bed = self.bed
        with self.relays("answers-old") as done:
            for _ in range(3):
                self.go_back_and_forth(2)
                bed.kill_daemon(COORDINATOR)
                bed.start_daemon(COORDINATOR)
                bed.wait_until_registered()
            self.go_back_and_forth(1)
        self.assertGreater(done[f"answers-old {FORMER}"], 0)

    def test_answers_and_commands_do_all_of_that_at_once(self):
        with self.relays(*DISORDER, *ANSWERS_IN_DISORDER):
            self.go_back_and_forth(6)

    def test_agents_talk_in_disorder(self):
        with self.bed.disorder(SEED, *DISORDER) as repeated:
            self.go_back_and_forth(3)
        self.assertGreater(sum(repeated), 0)

    # The agents have to ask each other how it ends.

    def test_their_disorder_meets_a_commit_that_is_cut_off(self):
        self.check_disorder("committing", "coordinator to destination is cut for 10 s")

    def test_their_disorder_meets_a_destination_that_is_killed(self):
        self.check_disorder("committing", "destination is killed")

    def test_their_disorder_meets_a_source_that_is_killed(self):
        self.check_disorder("asking", "source is killed")

    def test_their_disorder_meets_a_source_that_is_rebooted(self):
        self.check_disorder("arming", "source is rebooted")

    def check_disorder(self, phase: str, fault: str) -> None:
        def act():
            end = run_cell(self.bed, *named_cells([(phase, fault)])[0], is_calm=False)
            self.assertEqual(end.problems, [], end.said)
            return end
        with self.bed.disorder(SEED, *DISORDER) as repeated:
            self.go_back_and_forth(2)  # whose words are old then
            self.check_end(act)
        self.assertGreater(sum(repeated), 0)

    def test_answers_are_lost(self):
        with self.relays("mute", "late"):
            self.go_back_and_forth(3, (0, 1))
        self.go_back_and_forth(1)


if __name__ == "__main__":
    main(QUICK)
