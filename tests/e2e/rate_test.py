#!/usr/bin/python3
"""Two redis leave a host at once, and the host has a limit: what crosses the wire stays at it, and each of the two gets
about half."""

import json
import subprocess
import sys
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "faults"))

from bed import VALUE, outside, redis  # noqa: E402
from fault_case import BedCase  # noqa: E402
from godwit_lab import daemons, wire  # noqa: E402
from godwit_lab.hosts import COORDINATOR  # noqa: E402

PORTS = {"one": 7201, "two": 7202}
SIZE = 48 << 20
LIMIT = 8_000_000  # bytes per second: the two take about twelve seconds
LOOK_S = 3
# Frames, TLS, TCP and a burst at the beginning on one side; a busy machine that does not get that far on the other.
LEAST, MOST = 0.75, 1.15
HALF = (0.35, 0.65)


class Rate(BedCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.data = redis.Dataset(keys=SIZE // VALUE, value_size=VALUE)
        for name, port in PORTS.items():
            cls.bed.on(COORDINATOR, "godwit", "run", "--name", name, "--on", "h1", "--", *redis.SERVER, str(port))
        for port in PORTS.values():
            if not outside.wait_until(lambda: cls.answers("h1", port), 20):
                raise RuntimeError(f"redis does not answer at {port}")
            cls.bed.on(cls.bed.client, redis.TOOL, "load", "--address", f"h1:{port}", *cls.data.flags)
        cls.at = "h1"

    @classmethod
    def answers(cls, host: str, port: int) -> bool:
        try:
            said = cls.bed.on(cls.bed.client, "redis-cli", "-h", host, "-p", str(port), "ping", timeout=10)
        except RuntimeError:
            return False
        return said.strip() == "PONG"

    def sent(self) -> int:
        """Bytes that have left the host so far, with all headers."""
        for line in outside.read(f"/proc/{self.bed.lab.hosts[self.at].pid}/net/dev").splitlines():
            name, _, counters = line.partition(":")
            if name.strip() == wire.PORT:
                return int(counters.split()[8])
        raise RuntimeError("there is no network card")

    def begin(self, name: str, to: str) -> subprocess.Popen:
        begun = self.bed.start(COORDINATOR, "godwit", *self.bed.migrate_command(name, to, "--downtime", "5s"),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(begun.kill)
        return begun

    def phases(self) -> list[str]:
        said = daemons.godwit(self.bed.lab, "history", "--json").stdout
        return [m["phase"] for m in json.loads(said)["migrations"][:len(PORTS)]] if said else []

    def rate_on_the_wire(self) -> float:
        before, begin = self.sent(), time.monotonic()
        time.sleep(LOOK_S)
        return (self.sent() - before) / (time.monotonic() - begin)

    def move_both(self, then=lambda: None) -> None:
        to = self.bed.other(self.at)
        both = [self.begin(name, to) for name in PORTS]
        # Both send, and the burst of the beginning is over.
        start = self.sent()
        sending = outside.wait_until(lambda: self.phases() == ["precopy"] * 2 and self.sent() - start > LIMIT, 30)
        self.assertTrue(sending, self.phases())
        self.assert_at(LIMIT, self.rate_on_the_wire())
        self.assertEqual(self.phases(), ["precopy"] * 2, "one was over before it had been looked at")
        then()
        first_rounds = []
        for client in both:
            out, err = client.communicate(timeout=120)
            self.assertEqual(client.returncode, 0, out + err)
            first_rounds.append(json.loads(out)["rounds"][0])
        self.rates = [r["bytes"] / r["seconds"] for r in first_rounds]
        print(f"{[f'{rate / 1e6:.2f}' for rate in self.rates]} MB/s of {LIMIT / 1e6:.2f}", file=sys.stderr)
        type(self).at = to
        for port in PORTS.values():
            self.assertTrue(self.answers(to, port))

    def assert_at(self, limit: float, rate: float) -> None:
        print(f"{rate / 1e6:.2f} MB/s on the wire, {limit / 1e6:.2f} are the limit", file=sys.stderr)
        self.assertGreater(rate, LEAST * limit)
        self.assertLess(rate, MOST * limit)

    def assert_each_got_half(self) -> None:
        for rate in self.rates:
            self.assertGreater(rate, HALF[0] * LIMIT, self.rates)
            self.assertLess(rate, HALF[1] * LIMIT, self.rates)

    def test_of_the_operator(self):
        self.bed.on(COORDINATOR, "godwit", "rate", "--node", self.at, str(LIMIT))
        self.addCleanup(self.bed.on, COORDINATOR, "godwit", "rate", "--node", self.at, "0")
        self.move_both()
        self.assert_each_got_half()

    def test_of_the_agent_and_then_another(self):
        agent = self.bed.lab.hosts[self.at]
        self.bed.kill_daemon(agent.name)
        self.bed.start_daemon(agent.name, "--rate-limit", str(LIMIT))
        self.bed.wait_until_registered()

        def double() -> None:
            self.bed.on(COORDINATOR, "godwit", "rate", "--node", agent.name, str(2 * LIMIT))
            time.sleep(0.5)
            before, begin = self.sent(), time.monotonic()
            time.sleep(1)
            self.assert_at(2 * LIMIT, (self.sent() - before) / (time.monotonic() - begin))

        self.move_both(double)
        self.assertLess(abs(self.rates[0] - self.rates[1]), 0.3 * max(self.rates), self.rates)


if __name__ == "__main__":
    unittest.main(verbosity=2)
