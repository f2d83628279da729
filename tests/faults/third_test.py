#!/usr/bin/python3
"""A workload that is armed for one node, whose commit is on its way, must not go to a third one before the first attempt is
over: also when the coordinator has forgotten it. And when the commit comes after all, it is late."""

import json
import signal
import time

from bed import COORDINATOR, REDIS, outside
from fault_case import FaultCase, main
from godwit_lab import daemons, wire
from relay import COMMIT

SEED = 3
SENT_WITHIN = 5  # a command has reached the relay, an answer comes back
UNANSWERED_S = 6  # longer than an armed source waits before it asks for a refusal
QUICK = ("third_node",)


class Third(FaultCase):
    hosts = 3

    def test_a_third_node_is_not_tried_before_the_second_has_refused(self):
        bed = self.bed
        with bed.writing() as load:
            with bed.relays(SEED, "keep"), self.watching() as watch:
                for to in ("h2", "h1"):  # whose commits and kills come again in the end
                    self.assert_moves_to(to)
                backup = bed.backup()
                migration = self.lose_commit()
                answers = []
                try:
                    time.sleep(UNANSWERED_S)
                    answers.append(self.try_third("the migration is not over"))
                    bed.kill_daemon(COORDINATOR)
                    bed.put_back(backup)
                    bed.start_daemon(COORDINATOR)
                    self.wait_for("h1", "h3")
                    answers.append(self.try_third("the coordinator has forgotten that, and the source has not"))
                    if any(code == 0 for _, code, _ in answers):  # the commit would find what it was for still prepared
                        bed.kill_daemon("h1")
                finally:
                    wire.connect(bed.lab.switch, "h2", True)
                if any(code == 0 for _, code, _ in answers):
                    self.wait_for("h2")
                    self.hand_over("h2")
                    time.sleep(1)
                    self.assert_single(watch)
                for why, code, said in answers:
                    self.assertNotEqual(code, 0, why)
                    self.assertIn("busy", said, why)
                migration.communicate(timeout=90)
                self.assert_settled("h1", watch)
                bed.wait_until_registered()
                self.assert_moves_to("h3")
                for host in ("h1", "h2"):
                    self.hand_over(host)
                time.sleep(1)
                self.assertIn(f"{COMMIT} answered: refused", bed.relay_said("h2"), "the late commit has not come")
                self.assert_settled("h3", watch)
                self.assertEqual(bed.listed(), [("h3", "running")])
            self.assert_moves_to("h2")
        self.assert_nothing_lost(load, longest_gap_ms=None)

    def lose_commit(self):
        """On its way from h1 to h2, which is then cut from everybody."""
        bed = self.bed
        bed.tell_relay("h2", signal.SIGUSR1)
        migration = self.stop_at("committing", "h2")
        bed.signal_daemon(COORDINATOR, signal.SIGCONT)
        kept = outside.wait_until(lambda: f"kept {COMMIT}" in bed.relay_said("h2"), SENT_WITHIN, 0.01)
        self.assertTrue(kept, "no commit was sent")
        wire.connect(bed.lab.switch, "h2", False)
        return migration

    def try_third(self, why: str) -> tuple[str, int, str]:
        code, said = self.bed.try_migrate(REDIS, "h3")
        if code:
            self.assertEqual(self.bed.where(), "", "it was let go")
            self.assertEqual(self.bed.hosts_with_copies(), {"h1", "h2"})
        return why, code, said

    def hand_over(self, host: str) -> None:
        bed = self.bed
        bed.tell_relay(host, signal.SIGUSR2)
        handed = outside.wait_until(lambda: any("answered" in line for line in bed.relay_said(host)), SENT_WITHIN)
        self.assertTrue(handed, f"{host} has not answered")

    def wait_for(self, *nodes: str) -> None:
        """These are registered: one that is cut off is not. The journal knows all of them."""
        def there() -> bool:
            done = daemons.godwit(self.bed.lab, "nodes", "--json")
            listed = json.loads(done.stdout)["nodes"] if done.returncode == 0 else []
            return {*nodes} <= {node["name"] for node in listed if node["state"] == "up"}
        self.assertTrue(outside.wait_until(there, 30, 0.2), "they do not come back")


if __name__ == "__main__":
    main(QUICK)
