"""The test bed: a lab of two hosts, a redis with 64 MiB that Godwit runs and moves, a client that accounts for every
write, and faults that are armed in daemons while they run."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

sys.dont_write_bytecode = True
REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "deploy" / "demo.d"), str(REPOSITORY / "deploy" / "lab.d")]
os.environ.setdefault("GODWIT_LAB", f"godwit-faults-{os.getpid()}")

import machine  # noqa: E402
import outside  # noqa: E402  (and for whoever imports us)
import redis  # noqa: E402
from godwit_lab import daemons  # noqa: E402
from godwit_lab.hosts import COORDINATOR, Lab  # noqa: E402

FAULT_FILE = "/run/godwit-fault"  # on each host, which has a /run of its own
REDIS = "redis"
SIZE = 64 << 20
VALUE = 1000
RATE = 1000  # SETs a second
BUDGET_MS = 300  # the pause that `godwit migrate` is content with when nothing else is said
SETTLED_WITHIN = 30


class Bed(machine.DemoLab):
    def __init__(self, hosts: int = 2):
        super().__init__(keep=False, link=0, needed_bytes=1 << 30)
        self._hosts = hosts
        self._log_begun = False

    def __enter__(self) -> "Bed":
        self._tool("down")
        self._tool("up", str(self._hosts), "--no-daemons")
        self.lab = Lab.load(machine.NAME)
        self.name = machine.NAME
        try:
            for host in self.lab.hosts.values():
                self.start_daemon(host.name)
            daemons.wait_until_registered(self.lab)
        except BaseException:
            self.print_logs()
            self._tool("down")
            raise
        return self

    # Daemons and faults.

    def start_daemon(self, host: str) -> None:
        daemons.start(self.lab, self.lab.hosts[host], {"GODWIT_FAULT_FILE": FAULT_FILE})

    def daemon_pids(self, host: str) -> list[int]:
        return daemons.pids(self.lab, self.lab.hosts[host])

    def kill_daemon(self, host: str) -> None:
        daemons.stop(self.lab, self.lab.hosts[host], signal.SIGKILL)

    def wait_until_registered(self) -> None:
        daemons.wait_until_registered(self.lab)

    def _fault_file(self, host: str) -> Path:
        return Path(f"/proc/{self.lab.hosts[host].pid}/root{FAULT_FILE}")

    def arm(self, host: str, fault: str) -> None:
        draft = self._fault_file(host).with_suffix(".draft")
        draft.write_text(fault)
        draft.rename(self._fault_file(host))

    def armed(self, host: str) -> str:
        """What has not happened yet."""
        return outside.read(self._fault_file(host))

    def disarm(self) -> None:
        for host in self.lab.nodes:
            self._fault_file(host.name).unlink(missing_ok=True)

    # The workload.

    def start_redis(self) -> None:
        self.data = redis.Dataset(keys=SIZE // VALUE, value_size=VALUE)
        redis.start_redis(self, REDIS, "h1")
        self.data.load(self, "h1")
        # A first trip, so that both agents have done everything once before they are measured at rest.
        for to in ("h2", "h1"):
            code, report = self.try_migrate(REDIS, to)
            if code:
                raise RuntimeError(f"redis does not even move to {to} without a fault: {report}")
        time.sleep(0.5)
        self.remains = outside.Remains(self.lab, "redis-server")

    def where(self) -> str:
        """The one host that runs redis, as seen from outside; empty when there is none, or both do."""
        found = [host.name for host in self.lab.nodes if outside.running(self.lab, host.name, "redis-server")]
        return found[0] if len(found) == 1 else ""

    def other(self, host: str) -> str:
        return "h2" if host == "h1" else "h1"

    def migrate_command(self, workload: str, to: str, *options: str) -> list[str]:
        return ["migrate", workload, "--to", to, "--tcp-close", "--json", "--no-progress", *options]

    def try_migrate(self, workload: str, to: str, *options: str, timeout: float = 120) -> tuple[int, str]:
        """The exit code, and the report with whatever else was said."""
        done = daemons.godwit(self.lab, *self.migrate_command(workload, to, *options), timeout=timeout)
        return done.returncode, done.stdout + done.stderr

    def begin_migrate(self, workload: str, to: str, *options: str) -> subprocess.Popen:
        return self.start(COORDINATOR, "godwit", *self.migrate_command(workload, to, *options), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)

    @contextmanager
    def writing(self):
        """A load on redis; afterwards its report and the verdict on every write of this lab's life."""
        load = Load(self, self._log_begun)
        self._log_begun = True
        try:
            yield load
        except BaseException:
            load.abandon()
            raise
        load.finish()

    def wait_settled(self, at: str) -> list[str]:
        """What is not as it should be: redis at `at` and nowhere else, nothing frozen, traced, mounted or left open."""
        def problems():
            found = self.remains.problems()
            if self.where() != at:
                found.append(f"redis runs on '{self.where()}', not on {at}")
            return found

        settled = outside.wait_until(lambda: not problems(), SETTLED_WITHIN, 0.1)
        return [] if settled else problems()

    def listed(self) -> list[tuple[str, str]]:
        """Where Godwit itself says that redis is, and in which state."""
        done = daemons.godwit(self.lab, "ps", "--json")
        entries = json.loads(done.stdout)["workloads"] if done.returncode == 0 else []
        return [(entry["node"], entry["state"]) for entry in entries if entry["name"] == REDIS and entry["state"] != "exited"]

    def is_sound(self) -> bool:
        """Whether the next test can begin here."""
        where = self.where()
        daemons_run = all(self.daemon_pids(name) for name in self.lab.hosts)
        return bool(where) and daemons_run and self.listed() == [(where, "running")] and not self.wait_settled(where)


class Load(redis.Client):
    def __init__(self, bed: Bed, go_on: bool):
        self._bed = bed
        command = [redis.TOOL, "write", "--workload", REDIS, "--port", str(redis.PORT), "--rate", str(RATE), "--log",
                   redis.LOG, *bed.data.flags]
        self._process = bed.start(COORDINATOR, *command, *(["--go-on"] if go_on else []), stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE)
        time.sleep(0.3)  # it writes by then

    def finish(self) -> None:
        self.report = self.stop()
        self.verdict = self._bed.data.verify(self._bed, self._bed.where(), self)

    def abandon(self) -> None:
        try:
            self.stop()
        except (RuntimeError, subprocess.SubprocessError):
            self._process.kill()

    @property
    def longest_gap_ms(self) -> float:
        return self.report["blackout_ms"]


def report_of(text: str) -> dict:
    """The JSON report within what `godwit migrate` printed."""
    begin, end = text.find("{"), text.rfind("}")
    try:
        return json.loads(text[begin:end + 1])
    except ValueError:
        return {}
