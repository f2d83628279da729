#!/usr/bin/python3
"""A node is rebooted while its agent is in the middle of a step: between a record and the action that it announces, or
between an action and the next record. What the node held is gone, its records are not. Where the other one has a copy that
may run, that one runs, with every write; in any other case redis is gone, is listed nowhere, and never comes back. The
same when the power takes back a record that was written and not yet on the disk."""

import records
from bed import REDIS, outside
from cell_run import ENDS_WITHIN, PATIENT, REACHED_WITHIN, await_end
from fault_case import FaultCase, main

FAILING = "engine.restore.filled=fail"  # at the destination
# Where redis is in the end. A host that is rebooted keeps what its daemons have written, synced or not.
SOURCE = {
    "agent.source.frozen": "gone",  # nothing is prepared
    "agent.record.source.frozen": "gone",
    "agent.record.source.armed": "destination",  # prepared, and the source has lost its copy
    "agent.source.armed": "destination",
    "agent.record.source.killing": "destination",
    "agent.source.killing": "destination",
    "agent.record.source.killed": "destination",
}
ABORTING = {
    "agent.record.source.aborted": "gone",
    "agent.source.aborted": "gone",
    "agent.record.source.thawed": "gone",
}
DESTINATION = {
    "agent.record.destination.building": "source",
    "agent.destination.building": "source",
    "agent.destination.finished": "source",
    "agent.record.destination.prepared": "source",
    "agent.destination.prepared": "source",
    "agent.record.destination.committed": "source",  # it has lost its copy before that was let run
    "agent.destination.committed": "source",
    "agent.destination.thawed": "source",  # it ran, unheard
    "agent.record.destination.resumed": "gone",  # it counts from here on
    "agent.destination.resumed": "gone",
    "agent.record.destination.refused": "source",
    "agent.destination.refused": "source",
}
# Where it is in the end when the record was written and the power failed before it was on the disk.
LOST_RECORDS = {
    "agent.record.source.frozen": "gone",
    "agent.record.source.armed": "destination",  # a frozen copy that died with its node permits the commit
    "agent.record.source.killing": "destination",
    "agent.record.source.killed": "destination",
    "agent.record.source.aborted": "gone",
    "agent.record.source.thawed": "gone",
    "agent.record.destination.building": "source",
    "agent.record.destination.prepared": "source",
    "agent.record.destination.committed": "source",
    "agent.record.destination.resumed": "source",  # it ran, unheard, and nobody has been told of it
    "agent.record.destination.refused": "source",
}
# Where it runs while a record is written and not yet on the disk: what that announces has not been done.
RUNS_AT = {"frozen": "source", "armed": "", "aborted": "", "thawed": "source", "killing": "destination", "killed": "destination",
           "building": "source", "prepared": "", "committed": "", "resumed": "destination", "refused": ""}
QUICK = ("source_at_agent_source_armed", "source_at_agent_source_killing", "source_at_agent_source_frozen",
         "destination_at_agent_destination_committed", "destination_at_agent_record_destination_resumed_unsynced",
         "destination_at_agent_record_destination_committed_unsynced",
         "destination_at_agent_destination_resumed")


class Reboots(FaultCase):
    def check(self, side: str, point: str, ends: str, fails: bool, loses: bool):
        self.check_end(lambda: self.reboot(side, point, ends, fails, loses))

    def reboot(self, side: str, point: str, ends: str, fails: bool, loses: bool):
        bed = self.bed
        source = bed.where()
        destination = bed.other(source)
        host = source if side == "source" else destination
        faults = [f"{point}=stop"] if host == destination or not fails else []
        if fails and host == source:
            bed.arm(source, f"{point}=stop")
        bed.arm(destination if fails else host, ",".join([FAILING] * fails + faults))
        migration = bed.begin_migrate(REDIS, destination, *PATIENT)
        reached = outside.wait_until(lambda: bed.is_stopped(host), REACHED_WITHIN, 0.01)
        self.assertTrue(reached, f"it never came to {point}")
        if point.startswith("agent.record."):
            runs_at = {"source": source, "destination": destination}.get(RUNS_AT[point.rpartition(".")[2]], "")
            self.assertEqual(bed.where(), runs_at, "it was done before its record was on the disk")
        bed.power_off(host)
        if loses:
            records.take_back(bed.records(host), side, point.rpartition(".")[2])
        bed.power_on(host)
        bed.mend()
        said = migration.communicate(timeout=ENDS_WITHIN)[0]
        end = await_end(bed, may_be_gone=ends == "gone")
        self.assertEqual(end.problems, [], said)
        self.assertEqual(end.at, {"source": source, "destination": destination}.get(ends, ""), said)
        if end.at:
            self.assertEqual(end.at, {0: destination, 1: source}.get(migration.returncode), said)
        else:
            self.assertIn(migration.returncode, (0, 1, 5), said)
        return end


def add(side: str, point: str, ends: str, fails: bool = False, loses: bool = False) -> None:
    name = f"test_{side}_at_{point.replace('.', '_')}{'_unsynced' if loses else ''}"
    setattr(Reboots, name, lambda self: self.check(side, point, ends, fails, loses))


for point, ends in SOURCE.items():
    add("source", point, ends)
for point, ends in ABORTING.items():
    add("source", point, ends, fails=True)
for point, ends in DESTINATION.items():
    add("destination", point, ends, fails="refused" in point)
for point, ends in LOST_RECORDS.items():
    add(point.split(".")[2], point, ends, fails=point in ABORTING or "refused" in point, loses=True)

if __name__ == "__main__":
    main(QUICK)
