#!/usr/bin/python3
"""Migrations back and forth, one after the other, while something is wrong all the time: commands that come late, twice or
long after their migration is over; disks that take their time; links that are slow. The same must hold as after any fault."""

from bed import REDIS
from cell_run import PATIENT, await_end
from fault_case import FaultCase, main
from godwit_lab import wire

QUICK = ("there_and_back", "fsync", "all_of_that_at_once")
SEED = 4
SLOW_FSYNC = "agent.records.sync=pause:10"
ANYHOW = (0, 1, 5)


class Ways(FaultCase):
    def go_back_and_forth(self, trips: int, codes: tuple[int, ...] = (0,)) -> int:
        """How many of the trips led anywhere."""
        bed = self.bed
        arrived = 0
        with bed.writing() as load:
            with self.watching() as watch:
                for _ in range(trips):
                    source = bed.where()
                    code, said = bed.try_migrate(REDIS, bed.other(source), *PATIENT)
                    self.assertIn(code, codes, said)
                    end = await_end(bed, may_be_gone=False) if code else None
                    self.assertEqual(end.problems if end else [], [], said)
                    arrived += code == 0
                self.assert_settled(bed.where(), watch)
        self.assert_nothing_lost(load, longest_gap_ms=None)
        return arrived

    def test_there_and_back_and_there_at_once(self):
        self.go_back_and_forth(6)

    def test_an_fsync_takes_10_ms(self):
        with self.bed.daemons_with({host.name: {"GODWIT_FAULT": SLOW_FSYNC} for host in self.bed.lab.nodes}):
            self.go_back_and_forth(2)

    def test_the_links_are_slow(self):
        bed = self.bed
        try:
            for host in bed.lab.nodes:
                wire.limit(bed.lab.switch, host.pid, host.name, 100)
            self.go_back_and_forth(2)
        finally:
            bed.mend()

    def test_commands_are_late(self):
        with self.bed.relays(SEED, "late"):
            self.go_back_and_forth(2)

    def test_commands_come_twice(self):
        with self.bed.relays(SEED, "twice"):
            self.assertGreater(self.go_back_and_forth(4, ANYHOW), 0)
        self.go_back_and_forth(1)

    def test_commands_come_twice_and_overtake_each_other(self):
        with self.bed.relays(SEED, "late", "twice"):
            self.assertGreater(self.go_back_and_forth(6, ANYHOW), 0)
        self.go_back_and_forth(1)

    def test_commands_of_old_migrations_come_again(self):
        with self.bed.relays(SEED, "old"):
            self.assertGreater(self.go_back_and_forth(6, ANYHOW), 0)
        self.go_back_and_forth(1)

    def test_commands_do_all_of_that_at_once(self):
        with self.bed.relays(SEED, "late", "twice", "old"):
            self.assertGreater(self.go_back_and_forth(6, ANYHOW), 0)
        self.go_back_and_forth(1)

    def test_answers_are_lost(self):
        with self.bed.relays(SEED, "mute", "late"):
            self.go_back_and_forth(3, ANYHOW)
        self.go_back_and_forth(1)


if __name__ == "__main__":
    main(QUICK)
