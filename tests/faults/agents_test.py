#!/usr/bin/python3
"""An agent is killed at every point that has a name, and started again: redis runs in exactly one place, with every write;
nothing is left; and the next migration succeeds. The engine job has gone with it, or is of the last life."""

import signal
import subprocess
import time

from bed import CLIENT, REDIS, outside, redis
from fault_case import FaultCase, fault_points, main
from godwit_lab import daemons

# Where redis is when the agent is back. Between the commit record and the resumption only the destination may run it.
SOURCE = {
    "agent.source.frozen=kill": "source",
    "agent.source.armed=kill": "either",  # it refuses, or the coordinator asks again for the token and goes on
    "agent.source.killing=kill": "destination",
    "agent.transfer.frame=kill": "source",
    "agent.records.sync=kill": "source",
    "agent.record.source.frozen=kill": "source",
    "agent.record.source.armed=kill": "either",
    "agent.record.source.killing=kill": "destination",
    "agent.record.source.killed=kill": "destination",
    "agent.record.source.settled=kill": "destination",
    # Not written: the record before it is in force.
    "agent.recording.source.frozen=kill": "source",
    "agent.recording.source.armed=kill": "source",
    "agent.recording.source.killing=kill": "destination",
    "agent.recording.source.killed=kill": "destination",
    "agent.recording.source.settled=kill": "destination",
}
DESTINATION = {
    "agent.destination.building=kill": "source",
    "agent.destination.finished=kill": "source",
    "agent.destination.prepared=kill": "source",
    "agent.destination.committed=kill": "destination",
    "agent.destination.thawed=kill": "destination",
    "agent.destination.resumed=kill": "destination",
    "agent.records.sync=kill": "source",
    "agent.record.destination.building=kill": "source",
    "agent.record.destination.prepared=kill": "source",
    "agent.record.destination.committed=kill": "destination",
    "agent.record.destination.resumed=kill": "destination",
    "agent.record.destination.settled=kill": "destination",
    "agent.recording.destination.building=kill": "source",
    "agent.recording.destination.prepared=kill": "source",
    "agent.recording.destination.committed=kill": "either",  # prepared still: it is committed when it is back, or refuses
    "agent.recording.destination.resumed=kill": "destination",
    "agent.recording.destination.settled=kill": "destination",
    "engine.restore.filled=fail,agent.destination.refused=kill": "source",
    "engine.restore.filled=fail,agent.record.destination.refused=kill": "source",
    "engine.restore.filled=fail,agent.recording.destination.refused=kill": "source",
}
# At the source, after the destination has failed.
ABORTING = ("agent.source.aborted", "agent.record.source.aborted", "agent.record.source.thawed",
            "agent.recording.source.aborted", "agent.recording.source.thawed")
# Where a copy has to die for it, or a limit on its CPU time to be lifted: there they fail in agent/service's tests
# (sync_test.cc, throttle_test.cc), and restart_test.cc begins with what a kill leaves.
ELSEWHERE = {"agent.record.source.lost", "agent.record.destination.lost", "agent.recording.source.lost",
             "agent.recording.destination.lost", "agent.limit.lift"}
# Writes that fail once: what they would have announced is done all the same, when the record has been read back.
FAILED_WRITES = {
    "agent.record.source.killing": "destination",
    "agent.record.source.killed": "destination",
    "agent.record.destination.committed": "destination",
    "agent.record.destination.resumed": "destination",
}
# Of the tests' names: what CI runs.
QUICK = ("is_tried", "source_killed_at_agent_record_source_armed",
         "source_killed_at_agent_record_source_killing", "destination_killed_at_agent_destination_prepared",
         "destination_killed_at_agent_destination_thawed",
         "destination_killed_at_agent_record_destination_resumed", "source_killed_at_agent_recording_source_killing",
         "destination_killed_at_agent_recording_destination_committed", "source_killed_at_agent_source_aborted",
         "between_the_commit_and_the_thaw", "nothing_of_a_copy_is_heard", "a_cancel_counts", "killed_in_precopy",
         "a_write_fails_at_source_killing")
# Asks a redis whether it is there: how many bytes of an answer have come within a second, and how many in the end.
ASK = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=0.7) as connection:
    connection.sendall(b"PING\\r\\n")
    for seconds in (1, 20):
        connection.settimeout(seconds)
        try:
            print(len(connection.recv(64)), flush=True)
        except TimeoutError:
            print(0, flush=True)
"""


class Agents(FaultCase):
    def check_restart(self, side: str, fault: str, ends: str, aborted_by: str = ""):
        bed = self.bed
        source = bed.where()
        destination = bed.other(source)
        host = source if side == "source" else destination
        with bed.writing() as load:
            with self.watching() as watch:
                if aborted_by:
                    bed.arm(destination, aborted_by)
                bed.arm(host, fault)
                migration = bed.begin_migrate(REDIS, destination)
                self.assertTrue(outside.wait_until(lambda: not bed.daemon_pids(host), 60), "the agent lives on")
                self.assertEqual(bed.armed(host), "")
                time.sleep(0.5)  # what happens while it is away must not be wrong either
                bed.start_daemon(host)
                bed.wait_until_registered()
                said = migration.communicate(timeout=90)[0]
                self.assert_single(watch)  # before all other questions
                at = {0: destination, 1: source}.get(migration.returncode, "nowhere")
                self.assertIn(at, {"source": [source], "destination": [destination]}.get(ends, [source, destination]), said)
                self.assert_settled(at, watch)
            self.assert_moves_to(bed.other(at))
        self.assert_nothing_lost(load, longest_gap_ms=None)

    def check_failed_write(self, point: str, ends: str):
        bed = self.bed
        source = bed.where()
        destination = bed.other(source)
        with bed.writing() as load:
            with self.watching() as watch:
                bed.arm(source if ".source." in point else destination, f"{point}=fail")
                migration = bed.begin_migrate(REDIS, destination)
                said = migration.communicate(timeout=90)[0]
                self.assertIn(migration.returncode, (0, 5), said)
                at = {"source": source, "destination": destination}[ends]
                self.assert_settled(at, watch)
            self.assert_moves_to(bed.other(at))
        self.assert_nothing_lost(load, longest_gap_ms=None)

    def test_every_point_of_the_agent_is_tried(self):
        tried = {fault.split(",")[-1].split("=")[0] for fault in [*SOURCE, *DESTINATION]} | set(ABORTING) | ELSEWHERE
        self.assertEqual({name for name in fault_points() if name.startswith("agent.")} - tried, set())

    def test_agents_and_engines_of_both_sides_die_between_the_commit_and_the_thaw(self):
        bed = self.bed
        source = bed.where()
        destination = bed.other(source)
        with bed.writing() as load:
            with self.watching() as watch:
                bed.arm(destination, "agent.destination.committed=kill")
                migration = bed.begin_migrate(REDIS, destination)
                self.assertTrue(outside.wait_until(lambda: not bed.daemon_pids(destination), 60), "the agent lives on")
                # The restore job had ended before: what is prepared needs none. The source's still has its tracker.
                self.assertTrue(outside.kill(outside.copies(bed.lab, source, "godwit-engine")))
                bed.kill_daemon(source)
                self.assertEqual(bed.where(), "", "nobody is there to thaw it")
                bed.start_daemon(source)
                bed.start_daemon(destination)
                bed.wait_until_registered()
                said = migration.communicate(timeout=90)[0]
                self.assertEqual(migration.returncode, 0, said)
                self.assert_settled(destination, watch)
            self.assert_moves_to(source)
        self.assert_nothing_lost(load, longest_gap_ms=None)

    def test_a_cancel_counts_while_the_source_is_being_armed(self):
        bed = self.bed
        source = bed.where()
        with bed.writing() as load:
            with self.watching() as watch:
                bed.arm(source, "agent.source.armed=stop")
                migration = bed.begin_migrate(REDIS, bed.other(source))
                self.assertTrue(outside.wait_until(lambda: bed.is_stopped(source), 60, 0.01))
                done = daemons.godwit(bed.lab, "cancel", REDIS)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                bed.signal_daemon(source, signal.SIGCONT)
                said = migration.communicate(timeout=60)[0]
                self.assertEqual(migration.returncode, 1, said)
                self.assertIn("cancelled by", said)
                self.assert_settled(source, watch)
            self.assert_moves_to(bed.other(source))
        self.assert_nothing_lost(load, longest_gap_ms=None)

    def test_nothing_of_a_copy_is_heard_before_it_is_resumed(self):
        bed = self.bed
        source = bed.where()
        destination = bed.other(source)
        with bed.writing() as load:
            with self.watching() as watch:
                bed.arm(destination, "agent.destination.thawed=stop")
                migration = bed.begin_migrate(REDIS, destination)
                self.assertTrue(outside.wait_until(lambda: bed.is_stopped(destination), 60))
                self.assertEqual(bed.where(), destination, "it runs, and that is not recorded yet")
                asking = bed.start(CLIENT, "python3", "-c", ASK, bed.lab.hosts[destination].address, str(redis.PORT),
                                   stdout=subprocess.PIPE)
                self.assertEqual(asking.stdout.readline().strip(), "0", "it was heard")
                bed.signal_daemon(destination, signal.SIGCONT)
                self.assertGreater(int(asking.communicate(timeout=30)[0]), 0, "nothing was heard of it afterwards either")
                said = migration.communicate(timeout=90)[0]
                self.assertEqual(migration.returncode, 0, said)
                self.assert_settled(destination, watch)
            self.assert_moves_to(source)
        self.assert_nothing_lost(load, longest_gap_ms=None)

    def test_frames_that_cannot_be_sent_end_the_migration(self):
        bed = self.bed
        source = bed.where()
        with bed.writing() as load:
            bed.arm(source, "agent.transfer.frame=fail")
            code, said = bed.try_migrate(REDIS, bed.other(source))
            self.assertEqual(code, 1, said)
            self.assert_settled(source)
            self.assert_moves_to(bed.other(source))
        self.assert_nothing_lost(load)

    def test_killed_in_precopy(self):
        for side in ("source", "destination"):
            with self.subTest(side):
                self.check_killed_in_precopy(side)

    def check_killed_in_precopy(self, side: str):
        bed = self.bed
        source = bed.where()
        destination = bed.other(source)
        host = source if side == "source" else destination
        with bed.writing() as load:
            with self.watching() as watch:
                migration = bed.begin_migrate(REDIS, destination, "--rate-limit", "10M")
                time.sleep(2)
                self.assertIsNone(migration.poll(), "it was over too soon")
                bed.kill_daemon(host)
                bed.start_daemon(host)
                bed.wait_until_registered()
                said = migration.communicate(timeout=90)[0]
                self.assertEqual(migration.returncode, 1, said)
                self.assert_settled(source, watch)
            self.assert_moves_to(destination)
        self.assert_nothing_lost(load)


def add(side: str, fault: str, ends: str, **how) -> None:
    def test(self):
        self.check_restart(side, fault, ends, **how)
    point = fault.split(",")[-1].removesuffix("=kill").replace(".", "_")
    setattr(Agents, f"test_{side}_killed_at_{point}", test)


for fault, ends in SOURCE.items():
    add("source", fault, ends)
for fault, ends in DESTINATION.items():
    add("destination", fault, ends)
for point, ends in FAILED_WRITES.items():
    setattr(Agents, f"test_a_write_fails_at_{point.removeprefix('agent.record.').replace('.', '_')}",
            lambda self, point=point, ends=ends: self.check_failed_write(point, ends))
for point in ABORTING:
    add("source", f"{point}=kill", "source", aborted_by="engine.restore.filled=fail")

if __name__ == "__main__":
    main(QUICK)
