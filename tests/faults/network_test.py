#!/usr/bin/python3
"""What a network and those on it can do: a cut link, a dead page server, wrong certificates, wrong tokens, lies."""

import json
import re
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

from bed import COORDINATOR, REDIS, REPOSITORY, outside, report_of
from fault_case import FaultCase, main
from godwit_lab import cgroups, daemons, wire

CERTS = "/etc/godwit/certs"
HERE = Path(__file__).resolve().parent
HOSTILE, LIAR, WRITER = (str(HERE / name) for name in ("hostile.py", "liar.py", "writer.py"))
PATIENT = ("--on-no-progress", "force")
HEARD_WITHIN_S = 40  # two questions of five seconds that nobody answers, before the other way is tried
SLOW = ("--rate-limit", "10M", "--downtime", "2s")  # 64 MiB take six seconds; redis writes about as fast
CUT_S = 15
QUICK = ("page_server_dies", "by_way_of_the_coordinator", "strangers")


class Network(FaultCase):
    others: set[str] = set()  # migrations of other workloads

    def begin_slow(self, to: str) -> subprocess.Popen:
        migration = self.bed.begin_migrate(REDIS, to, *SLOW)
        arriving = outside.wait_until(lambda: self.arriving(to), 20)
        self.assertTrue(arriving, "nothing arrives")
        time.sleep(1)
        self.assertIsNone(migration.poll(), "it was over too soon")
        return migration

    def arriving(self, host: str) -> str:
        """The id of the migration that is building a copy of redis on a host: its cgroup tells."""
        if not outside.running(self.bed.lab, self.bed.other(host), "redis-server"):
            return ""
        return next(iter(self.all_arriving(host) - self.others), "")

    def all_arriving(self, host: str) -> set[str]:
        return {found[1] for group in self.bed.lab.cgroup(host).iterdir()
                if (found := re.fullmatch(r"(.+)\.\d+\.dst", group.name))}

    def end(self, migration: subprocess.Popen, *codes: int) -> str:
        said = migration.communicate(timeout=150)[0]
        self.assertIn(migration.returncode, codes, said)
        return said

    def test_page_server_dies_in_the_middle_of_a_transfer(self):
        bed = self.bed
        source = bed.where()
        destination = bed.other(source)
        with bed.writing() as load:
            with self.watching() as watch:
                migration = self.begin_slow(destination)
                self.assertTrue(outside.kill(cgroups.processes(bed.name, f"{destination}/godwit/jobs/pageserver")))
                said = self.end(migration, 1)
                self.assertRegex(said, "page|stream|peer|lost")
                self.assert_settled(source, watch)
            self.assert_moves_to(destination)
        self.assert_nothing_lost(load)

    def test_engine_jobs_die_in_precopy(self):
        bed = self.bed
        for side in ("source", "destination"):
            with self.subTest(side):
                source = bed.where()
                destination = bed.other(source)
                host = source if side == "source" else destination
                with bed.writing() as load:
                    migration = self.begin_slow(destination)
                    self.assertTrue(outside.kill(outside.copies(bed.lab, host, "godwit-engine")))
                    self.end(migration, 1)
                    self.assert_settled(source)
                    self.assert_moves_to(destination)
                self.assert_nothing_lost(load)

    def test_link_of_the_destination_is_cut_in_precopy(self):
        bed = self.bed
        source = bed.where()
        destination = bed.other(source)
        with bed.writing() as load:
            with self.watching() as watch:
                migration = self.begin_slow(destination)
                wire.connect(bed.lab.switch, destination, False)
                try:
                    time.sleep(CUT_S)
                    self.assertEqual(bed.where(), source)
                finally:
                    wire.connect(bed.lab.switch, destination, True)
                # Whether it is noticed while the link is down or goes on afterwards is a matter of seconds.
                said = self.end(migration, 0, 1)
                bed.wait_until_registered()
                at = destination if migration.returncode == 0 else source
                self.assert_settled(at, watch)
                if migration.returncode:
                    self.assertIn('"message"', said, "an error without words")
            self.assert_moves_to(bed.other(at))
        self.assert_nothing_lost(load)

    def test_source_hears_by_way_of_the_coordinator_while_the_two_are_cut_off(self):
        bed = self.bed
        source = bed.where()
        destination = bed.other(source)
        with bed.writing() as load:
            with self.watching() as watch:
                migration = self.stop_at("committing", destination, *PATIENT)
                bed.cut_off(source, destination)
                try:
                    bed.signal_daemon(COORDINATOR, signal.SIGCONT)
                    heard = outside.wait_until(lambda: bed.hosts_with_copies() == {destination}, HEARD_WITHIN_S)
                    self.assertTrue(heard, "the source's copy waits until it hears of the other one")
                    self.end(migration, 0)
                finally:
                    bed.mend()
                self.assert_settled(destination, watch)
            self.assert_moves_to(source)
        self.assert_nothing_lost(load, longest_gap_ms=None)

    def test_strangers_and_liars_are_turned_away_while_a_migration_goes_on(self):
        bed = self.bed
        source = bed.where()
        destination = bed.other(source)
        address = bed.lab.hosts[destination].address
        coordinator = bed.lab.coordinator.address
        foreign = self.foreign_certificates(source)
        with bed.writing() as load:
            with self.watching() as watch:
                migration = self.begin_slow(destination)
                wrong_token = self.attack(source, "pages", f"{address}:7443", CERTS, self.arriving(destination))
                self.assertEqual(wrong_token["said"][8:16], "02000400", f"not refused as denied: {wrong_token}")
                unknown = self.attack(source, "pages", f"{address}:7443", CERTS, "20200101-000000-abcdef")
                self.assertEqual(unknown["said"], wrong_token["said"], "an unknown migration can be told from a wrong token")
                self.assert_turned_away(self.attack(source, "garbage", f"{address}:7443", CERTS))
                for server in (f"{address}:7442", f"{coordinator}:7440"):
                    for length in (0xFFFFFFFF, (1 << 20) + 1):
                        self.assert_turned_away(self.attack(source, "frame", server, CERTS, str(length)))
                for host, event in ((destination, "peer.cut_off"), (COORDINATOR, "agent.did_not_register")):
                    self.assertRegex(self.log(host), f"{event}.*code=protocol")
                for server in (f"{address}:7442", f"{coordinator}:7440"):
                    met = self.attack(COORDINATOR, "handshake", server, daemons.OPERATOR_CERTS)
                    self.assertEqual((met["end"], met["said"]), ("closed", ""), f"{server} hears an operator: {met}")
                self.assertIn(b'"code":"denied"', self.ask_api(source, CERTS))
                for server in (f"{address}:7442", f"{address}:7443", f"{coordinator}:7440", f"{coordinator}:7441"):
                    met = self.attack(source, "handshake", server, foreign)
                    self.assertEqual((met["end"], met["said"]), ("refused", ""), f"{server}: {met}")
                self.end(migration, 0)
                self.assert_settled(destination, watch)
        self.assert_nothing_lost(load)

    def log(self, host: str) -> str:
        return outside.read(daemons.log_of(self.bed.lab, self.bed.lab.hosts[host]))

    def ask_api(self, host: str, certs: str) -> bytes:
        """What the API tells who comes with these certificates."""
        met = self.attack(host, "http", f"{self.bed.lab.coordinator.address}:7441", certs, "GET /v1/nodes HTTP/1.0")
        return bytes.fromhex(met["said"])

    @contextmanager
    def liar_between(self, source: str, destination: str):
        """Yields the file in which a lie is asked for."""
        lab = self.bed.lab
        here, address = lab.hosts[source], lab.hosts[destination].address
        liar = self.bed.start(source, "python3", LIAR, f"{address}:7443", self.bed.stolen_certs(destination),
                              self.bed.stolen_certs(source), "/srv/shared/lies", stdout=subprocess.PIPE)
        try:
            self.assertEqual(liar.stdout.readline(), "listening\n")
            wire.divert(here.pid, here.address, address, 7443)
            try:
                yield lab.state / "shared" / "lies"
            finally:
                wire.divert_no_more(here.pid)
        finally:
            outside.kill(outside.find(lab, source, LIAR))
            liar.communicate(timeout=10)

    @contextmanager
    def another_migration(self, source: str, destination: str):
        """Of a process that knows what it has in its memory; yields the `godwit migrate`."""
        report = self.bed.lab.state / "shared" / "another"
        rest = report.with_suffix(".rest")

        def looked_at() -> list[int]:
            return [int(word) for word in outside.read(report).split()]

        command = ["python3", WRITER, "private", "8", "0", "/srv/shared/another.rest", "/srv/shared/another"]
        done = daemons.godwit(self.bed.lab, "run", "--name", "another", "--on", source, "--", *command)
        self.assertEqual(done.returncode, 0, done.stderr)
        try:
            self.assertTrue(outside.wait_until(lambda: looked_at() and looked_at()[0] > 2048, 30), "it does not write")
            rest.touch()  # what it writes meanwhile would have to be sent again
            migration = self.bed.begin_migrate("another", destination, "--rate-limit", "1500K")
            self.others = outside.wait_until(lambda: self.all_arriving(destination), 20)
            yield migration
            everything = looked_at()[0] + 2048
            rest.unlink()
            self.assertTrue(outside.wait_until(lambda: looked_at()[0] > everything, 30), "it has not looked at each page again")
            self.assertEqual(looked_at()[1], 0, "pages are wrong")
        finally:
            daemons.godwit(self.bed.lab, "kill", "another", "--signal", "9")
            for file in (report, rest):
                file.unlink(missing_ok=True)

    def test_a_frame_that_lies_about_its_length_ends_its_own_migration_only(self):
        for bytes_said, because in (("4294967295", "payload of 4294967295 bytes"), ("-4096", "frame: magic .*, expected")):
            with self.subTest(bytes_said):
                self.assert_lie_is_found_out(bytes_said, because)

    def assert_lie_is_found_out(self, bytes_said: str, because: str):
        bed = self.bed
        source = bed.where()
        destination = bed.other(source)
        server = cgroups.processes(bed.name, f"{destination}/godwit/jobs/pageserver")
        with bed.writing() as load:
            with self.watching() as watch:
                with self.liar_between(source, destination) as lies, self.another_migration(source, destination) as another:
                    migration = self.begin_slow(destination)
                    lies.write_text(f"{self.arriving(destination)} {bytes_said}")
                    reason = report_of(self.end(migration, 1))["reason"]
                    self.assertFalse(lies.exists(), "nobody has lied")
                    self.assertEqual(reason["code"], "protocol", reason)
                    self.assertRegex(reason["message"], because)
                    self.assertIsNone(another.poll(), "it was over too soon")
                    self.end(another, 0)
                self.assert_settled(source, watch)
            self.assertEqual(cgroups.processes(bed.name, f"{destination}/godwit/jobs/pageserver"), server, "it died of it")
            self.assert_moves_to(destination)
        self.assert_nothing_lost(load)

    def assert_turned_away(self, met: dict):
        self.assertIn(met["end"], ("closed", "refused"), met)

    def attack(self, host: str, *arguments: str) -> dict:
        return json.loads(self.bed.on(host, "python3", HOSTILE, *arguments, timeout=60))

    def foreign_certificates(self, host: str) -> str:
        """Of an agent with the right name, by another authority; where the hosts can read them."""
        tools, folder = REPOSITORY / "deploy" / "certs", self.bed.lab.state / "shared" / "foreign"
        address = self.bed.lab.hosts[host].address
        if not folder.exists():
            folder.mkdir()
            subprocess.run([tools / "make-ca", folder / "ca"], check=True, capture_output=True)
        if not (folder / host).exists():
            subprocess.run([tools / "issue", folder / "ca", folder / host, "agent", host, address], check=True,
                           capture_output=True)
        return f"/srv/shared/foreign/{host}"


if __name__ == "__main__":
    main(QUICK)
