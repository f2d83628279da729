#!/usr/bin/python3
"""Migration to another host without a disk: pages straight into its memory, the rest copied behind."""

import subprocess
import unittest

import page
from seed_case import DESTINATION, SOURCE, WITHIN, WORKLOADS, Line, SeedCase, wait_until
from page_streams import Certificates

PORT = 9876
SERVER = "godwit page-server"


class Diskless(SeedCase):
    def setUp(self):
        super().setUp()
        for host in (SOURCE, DESTINATION):
            self.addCleanup(self.bed.shell, host, "while umount -l /mnt; do :; done")
        address = self.bed.lab.hosts[DESTINATION].address
        self.bed.shell(SOURCE, f"grep -q ' destination$' /etc/hosts || echo {address} destination >> /etc/hosts")

    def serve(self, command: str) -> subprocess.Popen:
        """Started in a terminal of its own, as it were; ready when it listens."""
        server = self.bed.start(DESTINATION, "bash", "-c", command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.addCleanup(server.kill)
        self.addCleanup(server.stdout.close)
        wait_until(lambda: self.bed.shell(DESTINATION, f"ss -Hltn sport = :{PORT}").stdout, "the page server listens")
        return server

    def assert_served(self, server: subprocess.Popen):
        self.assertEqual(server.wait(WITHIN), 0, server.stdout.read())

    def sequence(self, kind: str):
        workload = self.begin(kind)
        lines, _ = page.section("Disk-less migration")
        server = None
        for line in lines:
            if line.text.startswith(SERVER):
                server = self.serve(line.text)
                continue
            if line.verb == "restore":
                self.assert_served(server)
                self.assertTrue(workload.alive(), "it is stopped, not gone")
                workload.settle()
            before = workload.progress()
            self.run_line(line, workload)
            if line.verb == "dump":
                moment = (before, workload.progress())
            if line.verb == "restore":
                self.assert_between(workload.state(DESTINATION), *moment, workload)
        self.assertFalse(workload.alive(SOURCE))
        self.assertTrue(workload.alive(DESTINATION))
        self.assertNotEqual(self.bed.shell(DESTINATION, "mountpoint -q /mnt").returncode, 0)
        workload.end(DESTINATION)

    def used(self) -> int:
        return int(self.bed.shell(DESTINATION, "df --output=used -B1 /mnt | tail -1").stdout)

    def rounds(self, kind: str, secured: str = ""):
        """Pre-dump and dump through two page servers: the second frees in the first what it supersedes."""
        workload = self.begin(kind)
        _, lines = page.section("Disk-less migration")
        whole = server = None
        for line in lines:
            pages = "page-server" in line.text
            line = Line(line.host, f"{line.text} {secured}" if pages else line.text)
            if line.text.startswith(SERVER):
                server = self.serve(line.text)
                continue
            if line.verb == "restore":
                workload.settle()
            before = workload.progress()
            said = self.run_line(line, workload)
            if pages:
                self.assert_served(server)
                self.assertNotIn("dump.whole", said)
                whole = whole or self.used()
                moment = (before, workload.progress())
            if line.verb == "dump":
                self.assertLess(self.used(), whole * 1.1, "two copies of what was written twice")
        self.assert_between(workload.state(DESTINATION), *moment, workload)
        self.run_line("godwit kill -t $PID", workload)
        workload.end(DESTINATION)

    def rounds_with_tls(self, kind: str):
        certificates = Certificates(self.bed.lab.state / "shared" / f"certificates-{kind}",
                                    f"IP:{self.bed.lab.hosts[DESTINATION].address},DNS:destination")
        self.rounds(kind, " ".join(certificates.options()).replace(str(self.bed.lab.state / "shared"), "/srv/shared"))

    def test_a_server_without_the_parent_gets_everything(self):
        workload = self.begin("python")
        for host in (SOURCE, DESTINATION):
            self.bed.shell(host, "mount -t tmpfs none /mnt && mkdir /mnt/1 /mnt/2")
        client = f"--page-server --address destination --port {PORT}"
        server = self.serve(f"{SERVER} -D /mnt/1 --port {PORT}")
        self.run_line(f"godwit pre-dump -t $PID -D /mnt/1 --track-mem {client}", workload)
        self.assert_served(server)
        server = self.serve(f"{SERVER} -D /mnt/2 --port {PORT}")
        before = workload.progress()
        said = self.run_line(f"godwit dump -t $PID -D /mnt/2 --prev-images-dir ../1 {client}", workload)
        self.assert_served(server)
        self.assertIn("dump.whole", said)
        moment = (before, workload.progress())
        self.run_line(Line("source", "tar -C /mnt/2 -c . | ssh destination tar -C /mnt/2 -x"), workload)
        workload.settle()
        self.run_line(Line("destination", "godwit restore -D /mnt/2 --restore-detached"))
        self.assert_between(workload.state(DESTINATION), *moment, workload)
        workload.end(DESTINATION)


for kind in WORKLOADS:
    setattr(Diskless, f"test_{kind}", lambda self, kind=kind: self.sequence(kind))
    setattr(Diskless, f"test_{kind}_in_rounds", lambda self, kind=kind: self.rounds(kind))
    setattr(Diskless, f"test_{kind}_in_rounds_with_tls", lambda self, kind=kind: self.rounds_with_tls(kind))

if __name__ == "__main__":
    unittest.main(verbosity=2)
