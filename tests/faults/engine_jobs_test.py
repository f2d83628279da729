#!/usr/bin/python3
"""The engine job is killed, or fails, at every point that has a name, at the source and at the destination. Redis goes on
where it was, with every write, within a second of the pause's budget; nothing is left; and the next migration succeeds."""

from bed import REDIS, outside
from fault_case import FaultCase, fault_points, main

AT_ONCE = ("--max-rounds", "0", "--downtime", "5s")  # without pre-copy, so that the first hold is that of the freeze

SOURCE = [
    ("engine.hold.stopped", ()),
    ("engine.hold.seized", ()),
    ("engine.hold.stopped", AT_ONCE),
    ("engine.hold.seized", AT_ONCE),
    ("engine.inject.scratch", ()),
    ("engine.inject.scratch", AT_ONCE),
    ("engine.inject.batch", ()),
    ("engine.dump.frozen", ()),
    ("engine.dump.state", ()),
    ("engine.dump.held", ()),
]
DESTINATION = ["engine.restore.spawned", "engine.restore.cleared", "engine.restore.filled", "engine.restore.fds",
               "engine.restore.threads", "engine.restore.registers", "engine.restore.held"]
QUICK = ("is_tried", "between_the_commit", "*killed_at_engine_hold_seized_without_precopy", "*killed_at_engine_dump*",
         "*killed_at_engine_restore*", "source_fails")


class EngineJobs(FaultCase):
    def check_rolled_back(self, at_source: bool, fault: str, options: tuple = ()):
        bed = self.bed
        source = bed.where()
        destination = bed.other(source)
        with bed.writing() as load:
            with self.watching() as watch:
                bed.arm(source if at_source else destination, fault)
                code, said = bed.try_migrate(REDIS, destination, *options)
                self.assertEqual(bed.armed(source) + bed.armed(destination), "", f"never got there: {said}")
                self.assertEqual(code, 1, said)
                self.assert_settled(source, watch)
            self.assert_moves_to(destination)
        self.assert_nothing_lost(load)

    def test_source_killed_between_the_commit_and_the_thaw(self):
        bed = self.bed
        source = bed.where()
        destination = bed.other(source)
        with bed.writing() as load:
            with self.watching() as watch:
                bed.arm(destination, "agent.destination.committed=pause:1000")
                migration = bed.begin_migrate(REDIS, destination)
                self.assertTrue(outside.wait_until(lambda: not bed.armed(destination), 60), "never got there")
                self.assertTrue(outside.kill(outside.copies(bed.lab, source, "godwit-engine")))
                said = migration.communicate(timeout=60)[0]
                self.assertEqual(migration.returncode, 0, said)
                self.assert_settled(destination, watch)
            self.assert_moves_to(source)
        self.assert_nothing_lost(load, longest_gap_ms=None)

    def test_every_point_of_the_engine_is_tried(self):
        tried = {point for point, _ in SOURCE} | set(DESTINATION)
        tried.add("engine.dump.terminal")  # redis has none: agent/engine/resources/terminal_test.cc
        tried |= {"engine.aio.run", "engine.recover.aio"}  # redis has no native AIO: tests/engine/death_test.cc
        tried.add("engine.recover.unmapped")  # a second death after the first: tests/engine/death_test.cc
        # Of commands: tests/commands/aftermath_test.py, untracked_test.py.
        tried |= {"engine.dump.close", "engine.inject.userfaultfd"}
        self.assertEqual({name for name in fault_points() if name.startswith("engine.")} - tried, set())


def add(name: str, *arguments) -> None:
    def test(self):
        self.check_rolled_back(*arguments)
    setattr(EngineJobs, name.replace(".", "_"), test)


for point, options in SOURCE:
    add(f"test_source_killed_at_{point}{'_without_precopy' if options else ''}", True, f"{point}=kill", options)
add("test_source_fails_at_engine.dump.state", True, "engine.dump.state=fail")
for point in DESTINATION:
    add(f"test_destination_killed_at_{point}", False, f"{point}=kill")
    add(f"test_destination_fails_at_{point}", False, f"{point}=fail")

if __name__ == "__main__":
    main(QUICK)
