#!/usr/bin/python3
"""godwit dump --page-server into godwit page-server, on real programs; peers that are killed, hostile or strangers."""

import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "support"))

from page_streams import Certificates, PageServer  # noqa: E402
from waiting import wait_until  # noqa: E402

BIN = Path(os.environ.get("GODWIT_BIN", REPOSITORY / "build/release/bin"))
GODWIT = str(BIN / "godwit")
# Where the pages go has to be memory, as it is in a migration without disks.
MEMORY = "/dev/shm"

# Counts aloud, and holds memory whose content it checks all the time.
COUNTER = """
import hashlib, sys, time
size = int(sys.argv[1])
block = bytearray(hashlib.shake_256(b'x').digest(1 << 20))
memory = [bytearray(block) for _ in range(size)]
digest = hashlib.sha256(block).digest()
n = 0
while True:
    print(n, flush=True)
    n += 1
    if memory and hashlib.sha256(memory[n % size]).digest() != digest:
        print("broken", flush=True)
        raise SystemExit(1)
    time.sleep(0.01)
"""


def run(*words: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([GODWIT, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=120, **options)


class PageServerTest(unittest.TestCase):
    def setUp(self):
        self.top = Path(tempfile.mkdtemp(prefix="godwit-pages-", dir=MEMORY))
        self.addCleanup(shutil.rmtree, self.top)
        self.images, self.pages = self.top / "images", self.top / "pages"
        self.certificates = Certificates(self.top / "certs")
        self.output = self.top / "output"

    def start(self, megabytes: int = 1) -> int:
        with open(self.output, "w") as output:
            child = subprocess.Popen(["/usr/bin/python3", "-c", COUNTER, str(megabytes)], stdin=subprocess.DEVNULL,
                                     stdout=output, stderr=output, start_new_session=True, cwd="/")
        self.addCleanup(self.end, child.pid)
        child.returncode = 0  # it is reaped below: what is restored has the same PID
        wait_until(self.lines, "the program counts")
        return child.pid

    def end(self, pid: int) -> None:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass

    def lines(self) -> list[str]:
        return self.output.read_text().split("\n")[:-1]

    def assert_counts_on(self):
        before = len(self.lines())
        wait_until(lambda: len(self.lines()) > before + 5, "it counts on")
        self.assertEqual(self.lines(), [str(n) for n in range(len(self.lines()))])

    def server(self, *options: str, directory: Path | None = None) -> PageServer:
        return PageServer([GODWIT], directory or self.pages, list(options))

    def dump(self, pid: int, server: PageServer, *options: str) -> subprocess.CompletedProcess:
        self.images.mkdir(exist_ok=True)
        return run("dump", "-t", str(pid), "-D", str(self.images), *server.client_options(), *options)

    def restore_at_the_server(self, pid: int):
        os.waitpid(pid, 0)
        for image in self.images.iterdir():
            shutil.copy(image, self.pages / image.name)
        restored = run("restore", "-D", str(self.pages), "-d")
        self.assertEqual(restored.returncode, 0, restored.stdout)
        self.addCleanup(self.end, pid)
        self.assert_counts_on()

    def moves(self, *options: str, tls: bool = False):
        secured = self.certificates.options() if tls else []
        pid = self.start(32)
        with self.server(*secured) as server:
            dumped = self.dump(pid, server, *secured, *options)
            self.assertEqual(dumped.returncode, 0, dumped.stdout + server.said())
            self.assertEqual(server.wait(), 0, server.said())
            self.assertEqual("no checksums" in server.said(), not tls)
        self.assertFalse(list(self.images.glob("page*")), "pages lie at the server only")
        self.restore_at_the_server(pid)

    def test_a_program_moves_through_it(self):
        self.moves()

    def test_on_a_socket_that_is_connected_already(self):
        """--ps-socket: somebody else has accepted the connection."""
        pid = self.start(4)
        self.images.mkdir()
        self.pages.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = subprocess.Popen([GODWIT, "dump", "-t", str(pid), "-D", str(self.images), "--page-server", "--port",
                                       str(listener.getsockname()[1])], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, text=True)
            connection = listener.accept()[0]
        with connection:
            server = subprocess.Popen([GODWIT, "page-server", "-D", str(self.pages), "--ps-socket", str(connection.fileno())],
                                      pass_fds=[connection.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, text=True)
        said = client.communicate(timeout=60)[0] + server.communicate(timeout=60)[0]
        self.assertEqual((client.returncode, server.returncode), (0, 0), said)
        self.restore_at_the_server(pid)

    def test_options_that_it_has_not_are_refused_with_the_reason(self):
        for option, words in (("--lazy-pages", "CRIU has --lazy-pages, Godwit does not: every page is there"),
                              ("--leave-running", "--leave-running means nothing to godwit page-server: it is for dump"),
                              ("--nonsense", "godwit page-server has no option --nonsense")):
            done = run("page-server", "-D", str(self.top), option)
            self.assertEqual(done.returncode, 2, done.stdout)
            self.assertIn(words, done.stdout)

    def test_a_bad_command_line_is_said_before_anybody_is_called(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            client = ("dump", "-t", str(1 << 22), "-D", str(self.top), "--page-server", "--port",
                      str(listener.getsockname()[1]))
            for options, status, words in ((("--nonsense",), 2, "godwit dump has no option --nonsense"),
                                           (("--track-men",), 2, "godwit dump has no option --track-men"),
                                           (("--page-server-header", "25"), 2, "--page-server-header"),
                                           (("--leave-running", "--leave-stopped"), 2, "exclude each other"),
                                           (("--tls", "--lazy-pages"), 2, "CRIU has --lazy-pages"),
                                           (("--port", "70000"), 2, "--port"), (("--help",), 0, "--track-mem")):
                with self.subTest(options):
                    done = run(*client, *options)
                    self.assertEqual(done.returncode, status, done.stdout)
                    self.assertIn(words, done.stdout)
                    self.assertRaises(BlockingIOError, listener.accept)
        done = run("dump", "-t", str(1 << 22), "-D", str(self.top), "--page-server")
        self.assertEqual(done.returncode, 2, done.stdout)
        self.assertIn("--page-server needs --port", done.stdout)

    def test_action_scripts_run_as_with_criu_when_clients_can_connect(self):
        said = self.top / "said"
        for name in ("one", "two"):
            script = self.top / name
            script.write_text(f"#!/bin/sh\necho {name} $CRTOOLS_SCRIPT_ACTION $CRTOOLS_IMAGE_DIR >> {said}\n"
                              f"[ ! -e {self.top}/veto ] || exit 1\n")
            script.chmod(0o755)
        hooks = ["--action-script", str(self.top / "one"), "--action-script", str(self.top / "two")]
        with self.server(*hooks) as server:
            self.assertEqual(said.read_text(), "".join(f"{n} status-ready {self.pages}\n" for n in ("two", "one")))
            with socket.create_connection((server.address, server.port)):
                pass
            server.wait()
        (self.top / "veto").touch()
        done = run("page-server", "-D", str(self.pages), "--address", "127.0.0.1", *hooks)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("one exited with 1 at status-ready", done.stdout)

    def test_logs_as_criu_does(self):
        """As much as -v says, into a file that begins anew."""
        log = self.top / "the.log"
        for options, connected in (("-v0", False), ("", False), ("-v", True), ("-v4", True)):
            with self.subTest(options):
                log.write_text("of the last session\n")
                with self.server(*options.split(), "-W", str(self.top), "-o", log.name, directory=self.pages) as server:
                    with socket.create_connection(("127.0.0.1", server.port)):
                        pass
                    self.assertEqual(server.wait(), 1)
                said = log.read_text()
                self.assertNotIn("of the last session", said)
                self.assertEqual("page-server.connected" in said, connected, said)
                self.assertEqual("page-server.failed" in said, options != "-v0", said)

    def test_with_the_header_of_older_versions(self):
        self.moves("--page-server-header", "24")

    def test_with_tls(self):
        self.moves(tls=True)

    def test_with_tls_and_the_header_of_older_versions(self):
        self.moves("--page-server-header", "24", tls=True)

    def test_a_dump_fails_and_the_program_runs_on_when_the_server_is_killed(self):
        for secured in ([], self.certificates.options()):
            with self.subTest(tls=bool(secured)):
                pid = self.start(200)
                with self.server(*secured, directory=self.top / f"killed-{len(secured)}") as server:
                    # Stopped once it has answered that it is there: it takes in no more than buffers hold, so the dump is in
                    # the middle of its pages for sure.
                    script = self.top / "stop-the-server"
                    script.write_text(f"#!/bin/sh\n[ $CRTOOLS_SCRIPT_ACTION != pre-dump ] || kill -STOP {server.process.pid}\n")
                    script.chmod(0o755)
                    self.images.mkdir(exist_ok=True)
                    dump = subprocess.Popen([GODWIT, "dump", "-t", str(pid), "-D", str(self.images), "--action-script",
                                             str(script), *server.client_options(), *secured],
                                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                    stopped = Path(f"/proc/{pid}/stat")
                    wait_until(lambda: stopped.read_text().rpartition(") ")[2][0] in "tT", "the program is held")
                    server.process.kill()
                    said = dump.communicate(timeout=60)[0]
                    self.assertEqual(dump.returncode, 1, said)
                    self.assertIn("page server", said)
                self.assertFalse((self.images / "inventory.img").exists(), "the images look complete")
                self.assert_counts_on()
                self.end(pid)

    def test_a_full_disk_at_the_server_fails_the_dump_and_marks_the_set(self):
        pid = self.start(64)
        for secured in ([], self.certificates.options()):
            with self.subTest(tls=bool(secured)):
                pages = self.top / f"full-{len(secured)}"
                pages.mkdir()
                subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8M", "tmpfs", pages], check=True)
                self.addCleanup(subprocess.run, ["umount", pages], check=True)
                with self.server(*secured, directory=pages) as server:
                    dumped = self.dump(pid, server, *secured)
                    self.assertEqual(dumped.returncode, 1, dumped.stdout)
                    self.assertIn("page server", dumped.stdout)
                    self.assertIn("dump.unusable", dumped.stdout)
                    self.assertEqual(server.wait(), 1, server.said())
                    self.assertIn("No space left on device", server.said())
                self.assertFalse((self.images / "inventory.img").exists(), "the images look complete")
                self.assert_counts_on()
                self.assertTrue((pages / "unfinished").exists(), "the server's set is not marked")
                self.assertEqual(list(pages.glob("pagemap-*.img")), [])
                restored = run("restore", "-D", str(pages), "-d")
                self.assertEqual(restored.returncode, 1, restored.stdout)
        # With the rest of a good dump beside it, it is refused for what it is.
        good = self.top / "good"
        self.assertEqual(run("dump", "-t", str(pid), "-D", str(good), "-R").returncode, 0)
        subprocess.run(["mount", "-o", "remount,size=64M", self.top / "full-0"], check=True)
        for image in good.glob("*.img"):
            if not image.name.startswith("page"):
                shutil.copy(image, self.top / "full-0" / image.name)
        restored = run("restore", "-D", str(self.top / "full-0"), "-d")
        self.assertEqual(restored.returncode, 1, restored.stdout)
        self.assertIn("not complete", restored.stdout)

    def test_what_is_not_complete_is_not_restored(self):
        pid = self.start()
        with self.server() as server:
            with socket.create_connection((server.address, server.port)) as client:
                client.sendall(struct.pack("<IIQQQ", 4, 0, 0, 0, pid << 8 | 1))
                self.assertEqual(client.recv(1), b"\0")
                client.sendall(struct.pack("<IIQQQ", 6 | 4 << 16, 0, 1, 0x10000, pid << 8 | 1) + bytes(4096))
            self.assertEqual(server.wait(), 1)
            self.assertIn("not complete", server.said())
        self.images.mkdir()
        dumped = run("dump", "-t", str(pid), "-D", str(self.images), "-R")
        self.assertEqual(dumped.returncode, 0, dumped.stdout)
        for image in self.images.glob("*.img"):
            shutil.copy(image, self.pages / image.name)
        restored = run("restore", "-D", str(self.pages), "-d")
        self.assertEqual(restored.returncode, 1)
        self.assertIn("not complete", restored.stdout)

    def test_hostile_clients(self):
        open2 = struct.pack("<IIQQQ", 4, 0, 0, 0, 12 << 8 | 1)
        add = 6 | 4 << 16
        for name, said in {
            "garbage": os.urandom(4096),
            "http": b"GET / HTTP/1.1\r\nHost: example\r\n\r\n",
            "overflow": open2 + struct.pack("<IIQQQ", add, 0, 1 << 52, 0x10000, 12 << 8 | 1),
            "wraps": open2 + struct.pack("<IIQQQ", add, 0, 2, (1 << 64) - 4096, 12 << 8 | 1),
            "kind": struct.pack("<IIQQQ", 4, 0, 0, 0, 12 << 8 | 99),
            "hole": open2 + struct.pack("<IIQQQ", 6 | 1 << 16, 0, 1, 0x10000, 12 << 8 | 1),
            "asks": open2 + struct.pack("<IIQQQ", 7, 0, 1, 0x10000, 12),
            "nothing": b"",
        }.items():
            with self.subTest(name), self.server(directory=self.top / name) as server:
                with socket.create_connection((server.address, server.port)) as client:
                    try:
                        client.sendall(said)
                        client.shutdown(socket.SHUT_WR)
                        while client.recv(100):
                            pass
                    except OSError:
                        pass  # it has hung up
                self.assertEqual(server.wait(), 1, server.said())
                self.assertIn("page-server.failed", server.said())
                self.assertEqual([f.name for f in server.directory.glob("pagemap-*.img")], [])

    def test_strangers_do_not_use_up_a_session(self):
        pid = self.start()
        others = Certificates(self.top / "others")
        with self.server(*self.certificates.options()) as server:
            with socket.create_connection((server.address, server.port)) as client:
                client.sendall(b"hello")
            refused = self.dump(pid, server, *others.options())
            self.assertEqual(refused.returncode, 1, refused.stdout)
            self.assert_counts_on()
            dumped = self.dump(pid, server, *self.certificates.options())
            self.assertEqual(dumped.returncode, 0, dumped.stdout + server.said())
            self.assertEqual(server.wait(), 0, server.said())
            self.assertGreaterEqual(server.said().count("page-server.turned_away"), 2, server.said())

    def test_revoked_certificates_are_not_accepted(self):
        pid = self.start()
        secured = self.certificates.options()
        nobody = self.certificates.revoked(self.top / "nobody", False)
        node = self.certificates.revoked(self.top / "node", True)
        for of_server, of_client in ((node, []), ([], node)):
            with self.subTest(server=of_server, client=of_client), self.server(*secured, *of_server) as server:
                refused = self.dump(pid, server, *secured, *of_client)
                self.assertEqual(refused.returncode, 1, refused.stdout)
                self.assertIn("revoked", server.said() if of_server else refused.stdout)
                self.assert_counts_on()
        with self.server(*secured, *nobody) as server:
            dumped = self.dump(pid, server, *secured, *nobody)
            self.assertEqual(dumped.returncode, 0, dumped.stdout + server.said())
            self.assertEqual(server.wait(), 0, server.said())

    def test_the_name_in_a_certificate_counts(self):
        pid = self.start()
        elsewhere = Certificates(self.top / "elsewhere", "IP:192.0.2.1")
        with self.server(*elsewhere.options(), "--tls-no-cn-verify") as server:
            refused = self.dump(pid, server, *elsewhere.options())
            self.assertEqual(refused.returncode, 1, refused.stdout)
            dumped = self.dump(pid, server, *elsewhere.options(), "--tls-no-cn-verify")
            self.assertEqual(dumped.returncode, 0, dumped.stdout + server.said())
            self.assertEqual(server.wait(), 0, server.said())

    def test_a_daemon_ends_by_itself(self):
        pid = self.start()
        self.pages.mkdir()
        started = run("page-server", "-D", str(self.pages), "--address", "127.0.0.1", "--daemon", "-v", "--pidfile", "pid",
                      "-o", "log", "-W", str(self.top))
        self.assertEqual(started.returncode, 0, started.stdout)
        log = self.top / "log"
        daemon = int((self.top / "pid").read_text())
        port = log.read_text().partition("address=127.0.0.1:")[2].split()[0].strip('"')
        self.images.mkdir()
        dumped = run("dump", "-t", str(pid), "-D", str(self.images), "--page-server", "--port", port)
        self.assertEqual(dumped.returncode, 0, dumped.stdout + log.read_text())
        wait_until(lambda: not Path(f"/proc/{daemon}/exe").is_symlink()
                   or Path(f"/proc/{daemon}/stat").read_text().rpartition(") ")[2][0] == "Z", "the daemon ends")
        self.restore_at_the_server(pid)

    def test_a_daemon_that_cannot_begin_says_so(self):
        self.pages.mkdir()
        words = ["page-server", "-D", str(self.pages), "--address", "127.0.0.1", "--daemon", "-o", str(self.top / "log")]
        for more, why in ((["--pidfile", str(self.top / "nowhere" / "pid")], "nowhere"),
                          (["--action-script", "exit 7"], "status-ready")):
            failed = run(*words, *more)
            self.assertEqual(failed.returncode, 1, failed.stdout)
            self.assertIn(why, failed.stdout)
            self.assertIn(why, (self.top / "log").read_text())

    def test_a_reader_of_the_status_that_has_gone_keeps_no_server_from_its_work(self):
        pid = self.start()
        self.pages.mkdir()
        read, write = os.pipe()
        os.close(read)
        started = run("page-server", "-D", str(self.pages), "--address", "127.0.0.1", "--daemon", "-v", "--pidfile",
                      str(self.top / "pid"), "-o", str(self.top / "log"), "--status-fd", str(write), pass_fds=(write,))
        os.close(write)
        self.assertEqual(started.returncode, 0, started.stdout)
        port = (self.top / "log").read_text().partition("address=127.0.0.1:")[2].split()[0].strip('"')
        self.images.mkdir()
        dumped = run("dump", "-t", str(pid), "-D", str(self.images), "--page-server", "--port", port)
        self.assertEqual(dumped.returncode, 0, dumped.stdout)


if __name__ == "__main__":
    import ctypes
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: what is restored becomes our child
    unittest.main(verbosity=2)
