#!/usr/bin/python3
"""Programs of more than one process, moved from host to host and back while they work: a web server under load, a pool of
workers, a shell script with pipelines, a build. What they make is what they would have made without."""

import json
import re
import shutil
import subprocess
import sys
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "faults"))

from bed import CLIENT, Bed, outside  # noqa: E402
from godwit_lab import daemons, hosts  # noqa: E402

PORT = 8090
PAGE = "x" * 20_000

NGINX = """
daemon off; worker_processes 2; pid {home}/nginx.pid; error_log {home}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
  server {{ listen {port}; root {home}/www; }}
}}
"""

POOL = """
import hashlib, multiprocessing, os, sys, time
def work(n):
    time.sleep(0.01)
    return n, hashlib.sha256(str(n).encode() * 1000).hexdigest()
if __name__ == "__main__":
    home = sys.argv[1]
    with multiprocessing.Pool(3) as pool, open(home + "/results", "w", buffering=1) as results:
        for n, digest in pool.imap(work, range(1500), chunksize=5):
            print(n, digest, file=results)
        print("end", file=results)
"""

SCRIPT = """
cd "$1"
( n=0; while [ ! -e stop ]; do n=$((n + 1)); echo "background $n" >> background; sleep 0.02; done ) &
n=0
while [ ! -e stop ]; do
  n=$((n + 1))
  echo "$n" | sed 's/^/line /' | cat >> lines
  [ $((n % 10)) -ne 0 ] || ( sleep 0.05; exit 3 ) || echo "$n: $?" >> statuses
done
wait
echo "$n" > end
"""

CLIENT_SCRIPT = """
import http.client, json, os, sys, time
home, port = sys.argv[1], int(sys.argv[2])
page = open(home + "/www/page", "rb").read()
report = {"answered": 0, "failed": 0, "wrong": []}
while not os.path.exists(home + "/stop"):
    connection = http.client.HTTPConnection(open(home + "/address").read(), port, timeout=2)
    try:
        for _ in range(10):
            connection.request("GET", "/page")
            answer = connection.getresponse()
            body = answer.read()
            if answer.status == 200 and body == page:
                report["answered"] += 1
            else:
                report["wrong"].append([answer.status, len(body)])
    except (OSError, http.client.HTTPException):
        report["failed"] += 1
        time.sleep(0.02)
    connection.close()
    with open(home + "/report.draft", "w") as file:
        json.dump(report, file)
    os.rename(home + "/report.draft", home + "/report")
"""

SOURCES = 24
SAVED_KEYS = 20_000
SAVING_S = 20


class Programs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.bed = Bed().__enter__()
        cls.addClassCleanup(cls.bed.__exit__, None, None, None)

    def setUp(self):
        self.addCleanup(lambda: self._outcome.success or self.bed.print_logs())
        self.home = self.bed.lab.state / "shared" / self._testMethodName
        self.home.mkdir()
        self.home.chmod(0o777)
        self.inside = f"/srv/shared/{self._testMethodName}"

    def start(self, name: str, *command: str):
        done = daemons.godwit(self.bed.lab, "run", "--name", name, "--on", "h1", "--", *command)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.addCleanup(daemons.godwit, self.bed.lab, "kill", name)

    def move(self, name: str, to: str):
        code, said = self.bed.try_migrate(name, to)
        self.assertEqual(code, 0, said)

    def there_and_back(self, name: str, turns: int = 1):
        for _ in range(turns):
            for to in ("h2", "h1"):
                self.move(name, to)
                time.sleep(0.3)

    def start_nginx(self, name: str, *before: str) -> "Requests":
        (self.home / "www").mkdir()
        (self.home / "www" / "page").write_text(PAGE)
        (self.home / "nginx.conf").write_text(NGINX.format(home=self.inside, port=PORT))
        self.start(name, *before, "/usr/sbin/nginx", "-c", f"{self.inside}/nginx.conf", "-e", f"{self.inside}/error.log")
        load = Requests(self, "h1")
        self.assertTrue(outside.wait_until(lambda: load.answered > 20, 20), "nginx does not answer")
        return load

    # The master still has its workers in hand.
    def reload_nginx(self, host: str, load: "Requests"):
        old = self.workers(host)
        self.signal_master(host)
        self.assertTrue(outside.wait_until(lambda: len(self.workers(host)) == 2 and not old & self.workers(host), 20),
                        "a reload makes no new workers")
        load.go_on("after the reload")

    def test_nginx(self):
        load = self.start_nginx("web")
        for to in ("h2", "h1", "h2"):
            self.move("web", to)
            load.follow(to)
            load.go_on("after the move")
        self.reload_nginx("h2", load)
        self.assertEqual(load.stop()["wrong"], [])

    def test_nginx_with_a_seccomp_filter(self):
        shutil.copy(REPOSITORY / "tests/support/filtered.py", self.home)
        load = self.start_nginx("filtered", "python3", f"{self.inside}/filtered.py")
        for to in ("h2", "h1", "h2"):
            self.move("filtered", to)
            load.follow(to)
            load.go_on("after the move")
            self.expect_filtered(to)
        self.reload_nginx("h2", load)
        self.expect_filtered("h2")
        self.assertEqual(load.stop()["wrong"], [])

    def expect_filtered(self, host: str):
        states = [re.findall(r"^Seccomp\w*:\t(\d+)$", outside.read(f"/proc/{pid}/status"), re.M)
                  for pid in outside.copies(self.bed.lab, host, "nginx")]
        self.assertEqual(states, 3 * [["2", "1"]])  # of the master and two workers: filtered, once

    # Its child writes what memory was at the fork, of which both have the pages in common; the parent takes writes.
    def test_redis_while_it_saves_in_the_background(self):
        slowly = str(SAVING_S * 1_000_000 // SAVED_KEYS)  # microseconds for each key
        self.start("redis", "redis-server", "--port", str(PORT), "--save", "", "--dir", self.inside, "--bind", "0.0.0.0",
                   "--protected-mode", "no", "--enable-debug-command", "local", "--rdb-key-save-delay", slowly)
        self.assertTrue(outside.wait_until(lambda: self.redis("h1", "ping") == "PONG", 20), "redis does not answer")
        self.redis("h1", "debug", "populate", str(SAVED_KEYS), "key", "1000")
        self.redis("h1", "set", "counted", "1")
        self.redis("h1", "bgsave")
        self.redis("h1", "incr", "counted")  # not in the file
        for to in ("h2", "h1"):
            self.move("redis", to)
            self.assertIn("rdb_bgsave_in_progress:1", self.redis(to, "info", "persistence"), "it was over too soon")
        finished = outside.wait_until(lambda: "rdb_bgsave_in_progress:0" in self.redis("h1", "info", "persistence"), 60)
        self.assertTrue(finished, "it does not finish")
        self.assertIn("rdb_last_bgsave_status:ok", self.redis("h1", "info", "persistence"))
        self.assertEqual(self.redis("h1", "get", "counted"), "2")
        # Another one loads what was saved.
        self.start("second", "redis-server", "--port", str(PORT + 1), "--save", "", "--dir", self.inside, "--bind", "0.0.0.0",
                   "--protected-mode", "no")
        second = lambda *words: self.redis("h1", *words, port=PORT + 1)  # noqa: E731
        self.assertTrue(outside.wait_until(lambda: second("dbsize") == str(SAVED_KEYS + 1), 20), second("dbsize"))
        self.assertEqual(second("get", "counted"), "1")

    def redis(self, host: str, *words: str, port: int = PORT) -> str:
        try:
            return self.bed.on(host, "redis-cli", "-p", str(port), *words, timeout=10).strip()
        except RuntimeError as error:
            return str(error)

    def workers(self, host: str) -> set[int]:
        return {pid for pid in outside.copies(self.bed.lab, host, "nginx")
                if "worker" in outside.read(f"/proc/{pid}/cmdline")}

    def signal_master(self, host: str):
        masters = [pid for pid in outside.copies(self.bed.lab, host, "nginx")
                   if "master" in outside.read(f"/proc/{pid}/cmdline")]
        self.assertEqual(len(masters), 1)
        subprocess.run(["kill", "-HUP", str(masters[0])], check=True)

    def test_a_pool_of_workers(self):
        (self.home / "pool.py").write_text(POOL)
        results = self.home / "results"
        self.start("pool", "python3", f"{self.inside}/pool.py", self.inside)
        self.assertTrue(outside.wait_until(lambda: results.exists() and results.stat().st_size > 1000, 20))
        self.there_and_back("pool")
        self.assertTrue(outside.wait_until(lambda: results.read_text().endswith("end\n"), 60), "the pool does not end")
        lines = results.read_text().splitlines()[:-1]
        self.assertEqual([int(line.split()[0]) for line in lines], list(range(1500)))
        self.assertEqual(len({line.split()[1] for line in lines}), 1500)

    def test_a_shell_script(self):
        (self.home / "script").write_text(SCRIPT)
        self.start("script", "bash", f"{self.inside}/script", self.inside)
        lines = self.home / "lines"
        self.assertTrue(outside.wait_until(lambda: lines.exists() and lines.stat().st_size > 200, 20))
        self.there_and_back("script", turns=2)
        (self.home / "stop").touch()
        self.assertTrue(outside.wait_until((self.home / "end").exists, 20), "the script does not end")
        count = int((self.home / "end").read_text())
        self.assertEqual(lines.read_text(), "".join(f"line {n}\n" for n in range(1, count + 1)))
        self.assertEqual((self.home / "statuses").read_text(),
                         "".join(f"{n}: 3\n" for n in range(10, count + 1, 10)))
        background = (self.home / "background").read_text().splitlines()
        self.assertEqual(background, [f"background {n}" for n in range(1, len(background) + 1)])

    def test_a_build(self):
        for n in range(SOURCES):
            calls = "\n".join(f"int f{n}_{i}(int x) {{ return x * {i + 1} + {n}; }}" for i in range(400))
            (self.home / f"f{n}.c").write_text(calls + "\n")
        declarations = "\n".join(f"int f{n}_399(int);" for n in range(SOURCES))
        total = " + ".join(f"f{n}_399(1)" for n in range(SOURCES))
        (self.home / "main.c").write_text(
            f'#include <stdio.h>\n{declarations}\nint main(void) {{ printf("%d\\n", {total}); return 0; }}\n')
        objects = " ".join(f"f{n}.o" for n in range(SOURCES))
        (self.home / "Makefile").write_text(
            f"prog: main.o {objects}\n\tgcc -o $@ $^\n%.o: %.c\n\tsleep 0.3\n\tgcc -O1 -c $<\n")
        self.start("build", "env", f"TMPDIR={self.inside}", "make", "-j2", "-C", self.inside)
        self.assertTrue(outside.wait_until(lambda: len(list(self.home.glob("*.o"))) > 2, 30), "nothing is compiled")
        self.there_and_back("build")
        self.assertTrue(outside.wait_until((self.home / "prog").exists, 60), "the build does not end")
        time.sleep(0.5)
        said = subprocess.run([self.home / "prog"], capture_output=True, text=True)
        self.assertEqual(said.stdout, f"{sum(400 + n for n in range(SOURCES))}\n")


class Requests:
    """Asks nginx for a page, over and over, each answer checked; what is refused or cut off is asked again."""

    def __init__(self, test: Programs, host: str):
        self._test = test
        self._report = test.home / "report"
        self.follow(host)
        (test.home / "client.py").write_text(CLIENT_SCRIPT)
        self._process = hosts.popen(test.bed.lab, CLIENT, ["python3", f"{test.inside}/client.py", test.inside, str(PORT)])
        test.addCleanup(self._process.wait)
        test.addCleanup((test.home / "stop").touch)

    def follow(self, host: str):
        draft = self._test.home / "address.draft"
        draft.write_text(self._test.bed.lab.hosts[host].address)
        draft.rename(self._test.home / "address")

    def report(self) -> dict:
        return json.loads(self._report.read_text()) if self._report.exists() else {"answered": 0, "wrong": []}

    @property
    def answered(self) -> int:
        return self.report()["answered"]

    def go_on(self, when: str):
        before = self.answered
        self._test.assertTrue(outside.wait_until(lambda: self.answered > before + 50, 20), f"no answers {when}")

    def stop(self) -> dict:
        (self._test.home / "stop").touch()
        self._process.wait(20)
        return self.report()


if __name__ == "__main__":
    unittest.main(verbosity=2)
