#!/usr/bin/python3
"""What a migration holds stays held, and the copy that counts stays alive, whatever comes out of turn: an agent that starts
anew, an engine that dies, SIGCONTs from anybody, commands that no coordinator should give, or of migrations that are over.

The coordinator stands still with the source armed, something is done to one of the two sides, and then it goes on. Where the
source's copy is looked at, the two are cut off from each other and its agent stands still meanwhile: if that copy ran, the other
would not hear of it, and nobody would end it before the observer has seen two."""

import contextlib
import os
import signal
import subprocess
import time

from bed import COORDINATOR, outside
from cell_run import End, await_end
from fault_case import FaultCase, main
from relay import COMMIT, DISCARD, KILL_SOURCE

SEED = 5
ACTS_S = 0.7  # shorter than a source is armed before it asks
LOOKED_AT_S = 0.7
ANSWERED_WITHIN = 5
STRAY_S = 0.5
QUICK = ("agent_is_restarted", "engine_is_killed", "commit_of_the_move_before", "kill_of_the_move_before", "commit_without")


class Held(FaultCase):
    def go_on(self, migration: subprocess.Popen) -> tuple[int, str]:
        self.bed.signal_daemon(COORDINATOR, signal.SIGCONT)
        said = migration.communicate(timeout=120)[0]
        return migration.returncode, said

    def end_at(self, host: str) -> End:
        """For the coordinator, too, which may have to ask for a while longer than `godwit migrate` waits."""
        end = await_end(self.bed, may_be_gone=False)
        self.assertEqual((end.at, end.problems), (host, []))
        return end

    def say(self, host: str, command: int, tell: signal.Signals = signal.SIGUSR1) -> list[str]:
        """The relay to this host gives the command; what is answered."""
        bed = self.bed
        said = lambda: [line for line in bed.relay_said(host) if line.startswith(f"{command} answered")]
        bed.tell_relay(host, tell)
        self.assertTrue(outside.wait_until(said, ANSWERED_WITHIN), f"{host} has not answered a command {command}")
        return said()

    def check_armed(self, act) -> None:
        """`act`, with the source: what it holds does not run."""
        bed = self.bed
        source = bed.where()
        destination = bed.other(source)

        def disturbed() -> End:
            migration = self.stop_at("committing", destination)
            bed.cut_off(source, destination)
            act(source)
            time.sleep(ACTS_S)
            bed.signal_daemon(source, signal.SIGSTOP)
            bed.signal_daemon(COORDINATOR, signal.SIGCONT)
            arrives = outside.wait_until(lambda: outside.running(bed.lab, destination, "redis-server"), 20)
            time.sleep(LOOKED_AT_S)
            bed.mend()
            self.assertTrue(arrives, "it was not let run at its destination")
            code, said = self.go_on(migration)
            self.assertEqual(code, 0, said)
            return self.end_at(destination)
        self.check_end(disturbed)

    def test_armed_when_its_agent_is_restarted(self):
        def act(source: str) -> None:
            self.bed.kill_daemon(source)
            self.bed.start_daemon(source)
        self.check_armed(act)

    def test_armed_when_its_engine_is_killed_and_somebody_continues_it(self):
        def act(source: str) -> None:
            self.assertTrue(outside.kill(outside.copies(self.bed.lab, source, "godwit-engine")))
            until = time.monotonic() + STRAY_S
            while time.monotonic() < until:
                for pid in outside.copies(self.bed.lab, source, "redis-server"):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGCONT)
                time.sleep(0.002)
        self.check_armed(act)

    def test_armed_when_the_commit_of_the_move_before_comes_again(self):
        with self.bed.relays(SEED, "keep"):
            self.assert_moves_to(self.bed.other(self.bed.where()))
            self.check_armed(lambda source: self.say(source, COMMIT, signal.SIGUSR2))

    def test_running_when_the_kill_of_the_move_before_comes_again(self):
        bed = self.bed
        at = bed.where()

        def act() -> End:
            with bed.relays(SEED, "keep"):
                for to in (bed.other(at), at):
                    self.assert_moves_to(to)
                self.say(at, KILL_SOURCE, signal.SIGUSR2)
                time.sleep(ACTS_S)
                self.assertEqual(bed.where(), at, "what has come back was killed by its name")
                return self.end_at(at)
        self.check_end(act)

    def test_armed_when_it_is_to_be_killed_before_anybody_has_committed(self):
        bed = self.bed
        source = bed.where()
        destination = bed.other(source)

        def act() -> End:
            with bed.relays(SEED, f"say:{KILL_SOURCE}"):
                migration = self.stop_at("committing", destination)
                self.say(source, KILL_SOURCE)
                self.assertEqual(bed.hosts_with_copies(), {source, destination}, "a copy that may be the last was killed")
                bed.reboot(destination)  # so that the source's is the only one
                self.go_on(migration)
                bed.mend()
                return self.end_at(source)
        self.check_end(act)

    def test_prepared_when_a_commit_without_the_token_comes(self):
        bed = self.bed
        source = bed.where()
        destination = bed.other(source)

        def act() -> End:
            with bed.relays(SEED, f"say:{COMMIT}"):
                migration = self.stop_at("arming", destination)
                answers = self.say(destination, COMMIT)
                # Its source is not armed, and lets its copy go on its own word.
                self.assertTrue(outside.kill(outside.copies(bed.lab, source, "godwit-engine")))
                self.assertTrue(outside.wait_until(lambda: outside.running(bed.lab, source, "redis-server"), 20))
                time.sleep(LOOKED_AT_S)
                self.assertEqual(answers, [f"{COMMIT} answered: denied"])
                code, said = self.go_on(migration)
                self.assertEqual(code, 1, said)
                return self.end_at(source)
        self.check_end(act)

    def test_prepared_when_it_is_to_be_discarded_and_the_source_is_rebooted(self):
        bed = self.bed
        source = bed.where()
        destination = bed.other(source)

        def act() -> End:
            with bed.relays(SEED, f"say:{DISCARD}"):
                migration = self.stop_at("committing", destination)
                bed.power_off(source)
                bed.tell_relay(destination, signal.SIGUSR1)  # it asks its source, which nobody answers for
                time.sleep(ACTS_S)
                self.assertEqual(bed.hosts_with_copies(), {destination}, "the last copy was given up")
                bed.power_on(source)
                bed.start_daemon(source)
                self.go_on(migration)
                bed.mend()
                return self.end_at(destination)
        self.check_end(act)


if __name__ == "__main__":
    main(QUICK)
