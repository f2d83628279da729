#!/usr/bin/python3
"""The destination loses a copy that has run, and has written into a file that both hosts share: the source's is held until an
operator lets it go on, or goes on by itself where that was asked for."""

import json
from pathlib import Path

from bed import outside, report_of
from fault_case import BedCase, main
from godwit_lab import daemons

WRITER = str(Path(__file__).resolve().parent / "writer.py")
MEBIBYTES, LOOPS = 8, 2000
ENDS_WITHIN = 120
NAME = "writer"


class IfLost(BedCase):
    def setUp(self):
        super().setUp()
        command = ["python3", WRITER, "private", str(MEBIBYTES), str(LOOPS), f"/srv/shared/{NAME}.rest", f"/srv/shared/{NAME}"]
        done = self.godwit("run", "--name", NAME, "--on", "h1", "--", *command)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.addCleanup(self.godwit, "kill", NAME, "--signal", "9")
        self.assertTrue(self.writes(), "it does not write")

    def godwit(self, *words: str):
        return daemons.godwit(self.bed.lab, *words, timeout=60)

    def written(self) -> str:
        return outside.read(self.bed.lab.state / "shared" / NAME)

    def writes(self, within: float = 30) -> bool:
        before = self.written()
        return outside.wait_until(lambda: self.written() != before, within)

    def where(self) -> list[str]:
        return [host.name for host in self.bed.lab.nodes if outside.running(self.bed.lab, host.name, "python3")]

    def listed(self) -> list[tuple[str, str]]:
        entries = json.loads(self.godwit("ps", "--json").stdout)["workloads"]
        return [(entry["node"], entry["state"]) for entry in entries if entry["name"] == NAME]

    def lose_what_has_run(self, *options: str) -> tuple[int, str]:
        bed = self.bed
        bed.arm("h2", "agent.destination.thawed=stop")
        migration = bed.begin_migrate(NAME, "h2", "--on-no-progress", "force", *options)
        self.assertTrue(outside.wait_until(lambda: bed.is_stopped("h2"), 60, 0.01), "it was never thawed")
        self.assertTrue(self.writes(), "it does not write at the destination")
        bed.reboot("h2")
        bed.mend()
        said = migration.communicate(timeout=ENDS_WITHIN)[0]
        return migration.returncode, said

    def assert_goes_on(self) -> None:
        self.assertTrue(outside.wait_until(lambda: self.where() == ["h1"], 20), self.where())
        self.assertTrue(self.writes(), "it does not go on")
        self.assertTrue(outside.wait_until(lambda: self.listed() == [("h1", "running")], 20), self.listed())

    def test_it_is_held_until_an_operator_lets_it_go_on(self):
        code, said = self.lose_what_has_run()
        self.assertEqual(self.where(), [], "somebody has let it go")
        self.assertFalse(self.writes(within=3), "somebody has let it go")
        self.assertEqual(code, 5, said)
        reason = report_of(said)["reason"]
        self.assertEqual(reason["code"], "target_gone")
        self.assertIn("--go-on", reason["hint"])
        self.assertEqual(self.listed(), [("h1", "frozen")])
        self.assertEqual(self.godwit("resolve", NAME, "--destination-is-off").returncode, 3, "h2 is on")
        done = self.godwit("resolve", NAME, "--go-on")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assert_goes_on()
        # And moves, now that nothing is in doubt any more.
        moves = lambda: self.bed.try_migrate(NAME, "h2", "--on-no-progress", "force")[0] == 0
        self.assertTrue(outside.wait_until(moves, 30), "it does not move any more")

    def test_it_goes_on_by_itself_where_that_was_asked_for(self):
        code, said = self.lose_what_has_run("--if-lost", "thaw")
        self.assertEqual(code, 1, said)
        self.assert_goes_on()


if __name__ == "__main__":
    main()
