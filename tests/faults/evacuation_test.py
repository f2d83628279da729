#!/usr/bin/python3
"""The coordinator is killed while it evacuates a node with three workloads, and started again: it goes on by itself, all
three end up elsewhere, each once, and whoever has asked for it is told so."""

import json
import subprocess
import sys
import time
from pathlib import Path

from bed import COORDINATOR, outside
from fault_case import BedCase, fault_points, main
from godwit_lab import daemons

TICKER = str(Path(__file__).resolve().parent / "ticker.py")
NAMES = ("one", "two", "three")
POINTS = ("evacuation.begun", "evacuation.moving", "evacuation.ended")
CANCELLED = "evacuation.cancelled"
# Around the first of its moves; the others wait for that.
PHASES = ("surveying", "precopy", "finishing", "committing", "killing", "done")
UNREACHABLE, FAILED = 4, 1
AWAY_S = 12  # longer than agents wait before they go on by themselves
QUICK = ("every_record", "*killed_at_evacuation_moving", "a_cancel")


def report_file(name: str) -> str:
    return f"/srv/shared/{name}.ticks"


class Evacuation(BedCase):
    hosts = 3

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for name in NAMES:
            cls.bed.on(COORDINATOR, "godwit", "run", "--name", name, "--on", "h1", "--", "python3", TICKER, report_file(name))

    def setUp(self):
        super().setUp()
        self.bed.disarm()
        for host in self.bed.lab.nodes:
            self.bed.on(COORDINATOR, "godwit", "uncordon", host.name)
        if set(self.places().values()) != {"h1"}:
            self.bring_home()

    def bring_home(self) -> None:
        for host in ("h2", "h3"):
            code, said = self.end(self.begin(host, "--to", "h1"))
            self.assertEqual(code, 0, said)
            self.bed.on(COORDINATOR, "godwit", "uncordon", host)
        self.assertEqual(set(self.places().values()), {"h1"})

    def places(self) -> dict[str, str]:
        """Where each runs, as the machine sees it: the names of all hosts that it runs on."""
        found = {name: [] for name in NAMES}
        for host in self.bed.lab.nodes:
            for name in NAMES:
                pids = outside.find(self.bed.lab, host.name, report_file(name))
                # The command line of who starts it, and of its init, may have the same words.
                found[name] += [host.name for pid in pids if outside.comm_of(pid) == "python3" and outside.can_run(pid)]
        return {name: " ".join(hosts) for name, hosts in found.items()}

    def ticks(self, name: str) -> int:
        return int((outside.read(self.bed.lab.state / "shared" / f"{name}.ticks").split() or ["0"])[0])

    def begin(self, host: str, *options: str) -> subprocess.Popen:
        begun = self.bed.start(COORDINATOR, "godwit", "evacuate", host, "--json", "--downtime", "5s", *options,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(begun.kill)
        return begun

    def end(self, client: subprocess.Popen) -> tuple[int, str]:
        out, err = client.communicate(timeout=120)
        return client.returncode, out + err

    def die(self, away_s: float = 0.5) -> None:
        gone = outside.wait_until(lambda: not self.bed.daemon_pids(COORDINATOR), 60)
        self.assertTrue(gone, "it lives on")
        self.assertEqual(self.bed.armed(COORDINATOR), "")
        time.sleep(away_s)
        self.bed.start_daemon(COORDINATOR)
        self.bed.wait_until_registered()

    def assert_all_elsewhere(self) -> None:
        def fine() -> bool:
            return all(where in ("h2", "h3") for where in self.places().values())

        self.assertTrue(outside.wait_until(fine, 30), self.places())
        for name in NAMES:
            before = self.ticks(name)
            self.assertTrue(outside.wait_until(lambda: self.ticks(name) > before, 10), f"{name} does not tick any more")
        listed = json.loads(self.bed.on(COORDINATOR, "godwit", "ps", "--json"))["workloads"]
        self.assertEqual({w["name"]: w["node"] for w in listed if w["state"] == "running"}, self.places())
        self.assertFalse([w for w in listed if w["state"] not in ("running", "exited")], listed)

    def migrations(self) -> list[dict]:
        return json.loads(self.bed.on(COORDINATOR, "godwit", "history", "--json"))["migrations"]

    def check(self, point: str, away_s: float = 0.5):
        before = {m["migration"] for m in self.migrations()}
        self.bed.arm(COORDINATOR, f"{point}=kill")
        client = self.begin("h1")
        self.die(away_s)
        code, said = self.end(client)
        if code == UNREACHABLE and point == "evacuation.begun":  # that it has begun could not be answered any more
            code, said = self.end(self.bed.start(COORDINATOR, "godwit", "watch", "h1", "--json", "--no-progress",
                                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        self.assertEqual(code, 0, said)
        report = json.loads(said[said.index("{"):said.rindex("}") + 1])
        self.assertTrue(report["empty"], report)
        self.assertEqual({w["workload"]: w["state"] for w in report["workloads"]}, dict.fromkeys(NAMES, "moved"))
        self.assert_all_elsewhere()
        self.assertEqual({w["workload"]: w["to"] for w in report["workloads"]}, self.places())
        tried = [m for m in self.migrations() if m["migration"] not in before]
        self.assertEqual([m["outcome"] for m in tried].count("done"), len(NAMES), tried)
        self.assertLessEqual(len(tried), len(NAMES) + 1, tried)
        print(f"{point}: {len(tried)} migrations", file=sys.stderr)

    def test_every_record_of_an_evacuation_is_tried(self):
        points = {name for name in fault_points() if name.startswith("evacuation.")}
        self.assertEqual(points, {*POINTS, CANCELLED})

    def test_killed_for_longer_than_agents_wait(self):
        self.check("coordinator.committing", away_s=AWAY_S)

    def test_a_cancel_is_kept(self):
        self.bed.arm(COORDINATOR, f"{CANCELLED}=kill")
        client = self.begin("h1", "--rate-limit", "500K")
        moving = outside.wait_until(lambda: '"migration": "2' in daemons.godwit(self.bed.lab, "ps", "--json").stdout, 30)
        self.assertTrue(moving, "nothing moves")
        daemons.godwit(self.bed.lab, "cancel", "h1")
        self.die()
        code, said = self.end(client)
        self.assertEqual(code, FAILED, said)
        self.assertIn('"cancelled_by": "lab"', said)
        self.assertEqual(self.places(), dict.fromkeys(NAMES, "h1"))


def add(point: str) -> None:
    name = point.removeprefix("coordinator.").replace(".", "_")
    setattr(Evacuation, f"test_killed_at_{name}", lambda self: self.check(point))


for point in (*POINTS, *(f"coordinator.{phase}" for phase in PHASES)):
    add(point)

if __name__ == "__main__":
    main(QUICK)
