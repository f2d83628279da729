#!/usr/bin/python3
"""deploy/demo as a command, in surroundings of its own: PIDs, mounts, network, /tmp and /run. Whatever is there afterwards
is what it left: when it succeeds, when it fails, and when it is interrupted."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "deploy" / "lab.d"))

from godwit_lab import cgroups  # noqa: E402

NAME = os.environ.setdefault("GODWIT_LAB", f"godwit-e2e-{os.getpid()}")
INSIDE = "GODWIT_DEMO_ALONE"
RESULTS = Path("/tmp/results.json")
SLOW = ("--size", "32M", "--rate", "1000", "--link", "150", "--before", "0.1")  # the move takes two seconds


def lines(*command: str) -> list[str]:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def be_alone() -> None:
    """Goes on as PID 1 of namespaces that nobody else is in, with /tmp and /run that are empty but for the repository."""
    if INSIDE not in os.environ:
        os.environ[INSIDE] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable,
                              *sys.orig_argv[1:]])
    place = Path("/run/repository")
    subprocess.run(["sh", "-euc", f"""
        mount -t tmpfs run /run
        mkdir {place}
        mount --bind {REPOSITORY} {place}
        mount -t tmpfs tmp /tmp
        if [ -e {REPOSITORY} ]; then umount {place}; else mkdir -p {REPOSITORY}; mount --move {place} {REPOSITORY}; fi
        rmdir {place}
        mount --make-rshared /"""], check=True)  # as systemd has it, so that a mount inside of a host could come out
    os.chdir(REPOSITORY)


def processes() -> dict[int, str]:
    """All but this one, by PID."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                found[int(entry.name)] = (entry / "comm").read_text().strip()
        except OSError:
            pass  # it has ended
    return found


def bury() -> None:
    """What PID 1 does for orphans. Not while a demo runs: its end is for whoever started it."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def traces() -> dict:
    hierarchies = [top for top in (cgroups.unified(), cgroups.memory_v1()) if top]
    return {
        "processes": list(processes().values()),
        "mounts": Path("/proc/self/mountinfo").read_text().splitlines(),
        "network namespaces": lines("ip", "netns"),
        "links": [line.split(": ")[1] for line in lines("ip", "-o", "link")],
        "groups": [str(path) for top in hierarchies for path in top.glob(f"**/{NAME}*")],
        "files": lines("find", "/tmp", "/run", "-path", str(REPOSITORY), "-prune", "-o", "-print"),
        "sources": lines("find", str(REPOSITORY / "deploy"), str(REPOSITORY / "tests")),
    }


class Demo:
    """One run of it."""

    def __init__(self, *options: str):
        self.said = ""
        environment = {name: value for name, value in os.environ.items() if name != "GODWIT_BIN"}
        # A group of its own, as a shell would give it: what a terminal interrupts.
        self._process = subprocess.Popen([REPOSITORY / "deploy" / "demo", *options], env=environment, process_group=0,
                                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def read_until(self, words: str) -> None:
        for line in self._process.stdout:
            self.said += line
            if words in line:
                return
        raise AssertionError(f"it ended before it said {words!r}:\n{self.said}")

    def press_ctrl_c(self) -> None:
        os.killpg(self._process.pid, signal.SIGINT)

    def terminate(self) -> None:
        self._process.terminate()

    def end(self) -> int:
        with self._process.stdout as rest:
            self.said += rest.read()
        return self._process.wait(60)


class DemoCommandTest(unittest.TestCase):
    def setUp(self):
        # What one run leaves is not held against the next one.
        subprocess.run([REPOSITORY / "deploy" / "lab", "down"], check=True)
        bury()
        self.before = traces()
        self.assertEqual(self.before["processes"], [])

    def assert_nothing_is_left(self, demo: Demo):
        # The last of what was killed is gone a moment after those who killed it.
        deadline = time.monotonic() + 5
        bury()
        while processes() and time.monotonic() < deadline:
            time.sleep(0.05)
            bury()
        for kind, left in traces().items():
            self.assertEqual(left, self.before[kind], f"{kind}\n{demo.said}")

    def wait_for_a_host(self):
        deadline = time.monotonic() + 60
        while "lab-init" not in processes().values():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def test_it_prints_what_it_measured_and_leaves_nothing(self):
        demo = Demo("--size", "16M", "--rate", "1000", "--before", "1", "--after", "0.5", "--json", str(RESULTS))
        self.assertEqual(demo.end(), 0, demo.said)
        results = json.loads(RESULTS.read_text())
        RESULTS.unlink()  # which was asked for
        self.assert_nothing_is_left(demo)
        self.assertIn("built release in ", demo.said)
        self.check_rounds(results, demo.said)
        self.check_downtime(results, demo.said)
        self.assertEqual(len(re.findall("^    ok  ", demo.said, re.MULTILINE)), 7)

    def check_rounds(self, results: dict, text: str):
        heading = r" +round +pages +bytes +seconds +GB/s +dirty after +dirty rate\n"
        table = re.search(heading + r"((?: +(?:\d+|final) .*\n)+)\n", text)
        self.assertTrue(table, text)
        rows = [re.split("  +", row.strip()) for row in table[1].splitlines()]
        rounds = results["rounds"]
        self.assertEqual([row[0] for row in rows], [*(str(number) for number in range(len(rounds) - 1)), "final"])
        for row, one in zip(rows, rounds):
            self.assertEqual(int(row[1].replace(",", "")), one["pages"])
            self.assert_size(row[2], one["bytes"])
            self.assertAlmostEqual(float(row[3]), one["seconds"], delta=0.001)
        self.assertGreater(rounds[0]["dirty_bytes_after"], 0, "a client writes")
        for row, one in zip(rows[:-1], rounds):
            self.assert_size(row[5], one["dirty_bytes_after"])
            self.assertTrue(row[6].endswith("/s"), row)
            self.assert_size(row[6].removesuffix("/s"), one["dirty_bytes_after"] / one["seconds"])

    def assert_size(self, text: str, size: float):
        number, unit = text.split()
        scale = 1024 ** ("B", "KiB", "MiB", "GiB").index(unit)
        # One digit of it is printed; the seconds that it is divided by have six.
        self.assertAlmostEqual(float(number) * scale, size, delta=0.06 * scale + 0.001 * size, msg=text)

    def check_downtime(self, results: dict, text: str):
        downtime, steps = results["downtime_ms"], results["downtime_steps_ms"]
        line = f"  downtime {downtime:.1f} ms (predicted {results['predicted_downtime_ms']:.1f} ms)\n"
        self.assertIn(line, text)
        listed = text.split(line, 1)[1].split("\n\n", 1)[0]
        found = re.findall(r"^    (\S.*?) +([\d.]+) ms +(\d+) %(?:  ▇+)?$", listed, re.MULTILINE)
        self.assertEqual(len(found), len(listed.splitlines()), listed)
        self.assertEqual(sorted(name for name, _, _ in found), sorted(name.replace("_", " ") for name in steps))
        self.assertAlmostEqual(sum(float(took) for _, took, _ in found), downtime, delta=0.01 * len(found) + 0.05)
        self.assertAlmostEqual(sum(int(share) for _, _, share in found), 100, delta=0.5 * len(found) + 1)

    def test_a_failure_leaves_nothing(self):
        demo = Demo(*SLOW)
        demo.read_until("moving it to h2")
        time.sleep(0.5)
        for pid, name in processes().items():
            if name == "redis-server":
                os.kill(pid, signal.SIGKILL)
        self.assertEqual(demo.end(), 1, demo.said)
        self.assert_nothing_is_left(demo)
        self.assertIn("deploy/demo: the migration to h2 failed", demo.said)
        self.assertIn("--- godwit-agent on h1\n", demo.said)

    def test_interrupted_in_the_midst_it_leaves_nothing(self):
        demo = Demo(*SLOW)
        demo.read_until("moving it to h2")
        time.sleep(0.5)
        demo.press_ctrl_c()
        time.sleep(0.3)
        demo.press_ctrl_c()  # by somebody who cannot wait
        self.assertEqual(demo.end(), 130, demo.said)
        self.assert_nothing_is_left(demo)
        self.assertNotIn("Traceback", demo.said)

    def test_interrupted_while_it_makes_the_hosts_it_leaves_nothing(self):
        demo = Demo("--size", "1M")
        self.wait_for_a_host()
        demo.press_ctrl_c()
        self.assertEqual(demo.end(), 130, demo.said)
        self.assert_nothing_is_left(demo)

    def test_told_to_end_while_it_makes_the_hosts_it_leaves_nothing(self):
        demo = Demo("--size", "1M")
        self.wait_for_a_host()
        demo.terminate()
        self.assertEqual(demo.end(), 143, demo.said)
        self.assert_nothing_is_left(demo)


if __name__ == "__main__":
    be_alone()
    unittest.main(verbosity=2)
