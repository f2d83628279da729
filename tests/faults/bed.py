"""The test bed: a lab of two hosts, a redis with 64 MiB that Godwit runs and moves, a client that accounts for every
write, and faults that are armed in daemons while they run."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

sys.dont_write_bytecode = True
REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "deploy" / "demo.d"), str(REPOSITORY / "deploy" / "lab.d")]
os.environ.setdefault("GODWIT_LAB", f"godwit-faults-{os.getpid()}")

import machine  # noqa: E402
import outside  # noqa: E402  (and for whoever imports us)
import redis  # noqa: E402
from godwit_lab import daemons, hosts, wire  # noqa: E402
from godwit_lab.hosts import CLIENT, COORDINATOR, Lab  # noqa: E402

FAULT_FILE, CLOCK_FILE = "/run/godwit-fault", "/run/godwit-clock"  # on each host, which has a /run of its own
REDIS = "redis"
SIZE = 64 << 20
VALUE = 1000
RATE = 1000  # SETs a second
BUDGET_MS = 300  # the pause that `godwit migrate` is content with when nothing else is said
SETTLED_WITHIN = 30
RELAY, BETWEEN = (Path(__file__).resolve().parent / name for name in ("relay.py", "between.py"))
AGENT_PORT = 7442
RELAY_PORT = 7450
DISK_MIB = 24  # of each daemon, so that it can be filled


class Bed(machine.DemoLab):
    client = CLIENT  # so that the coordinator's host can be rebooted under load

    def __init__(self, hosts: int = 2, same_pids: bool = False):
        super().__init__(keep=False, link=0, needed_bytes=1 << 30)
        self._hosts = hosts
        self._more = ("--same-pids",) if same_pids else ()
        self._log_begun = False
        self._settings: dict[str, dict[str, str]] = {}
        self._relays: dict[str, str] = {}  # through which agents reach the coordinator

    def __enter__(self) -> "Bed":
        self._tool("down")
        self._tool("up", str(self._hosts), "--no-daemons", "--client", "--disk", str(DISK_MIB), *self._more)
        self.lab = Lab.load(machine.NAME)
        self.name = machine.NAME
        try:
            for host in self.lab.with_daemon:
                self.start_daemon(host.name)
            daemons.wait_until_registered(self.lab)
        except BaseException:
            self.print_logs()
            self._tool("down")
            raise
        return self

    # Daemons and faults.

    def start_daemon(self, host: str, *more: str) -> None:
        env = {"GODWIT_FAULT_FILE": FAULT_FILE, "GODWIT_CLOCK_FILE": CLOCK_FILE, **self._settings.get(host, {})}
        daemons.start(self.lab, self.lab.hosts[host], env, self._relays.get(host, ""), more)

    def daemon_pids(self, host: str) -> list[int]:
        return daemons.pids(self.lab, self.lab.hosts[host])

    def kill_daemon(self, host: str) -> None:
        daemons.stop(self.lab, self.lab.hosts[host], signal.SIGKILL)

    @contextmanager
    def daemons_with(self, settings: dict[str, dict[str, str]]):
        """The daemons of these hosts run with more environment for a while."""
        self._restart_with(settings)
        try:
            yield
        finally:
            self._restart_with({})

    def _restart_with(self, settings: dict[str, dict[str, str]]) -> None:
        concerned = settings.keys() | self._settings.keys()
        self._settings = settings
        self._restart(concerned)

    def _restart(self, concerned) -> None:
        for host in concerned:
            daemons.stop(self.lab, self.lab.hosts[host], signal.SIGTERM)
            self.start_daemon(host)
        self.wait_until_registered()

    def stolen_certs(self, host: str) -> str:
        """Those of its agent, where every host can read them."""
        certs = self.lab.state / "shared" / f"certs-{host}"
        shutil.copytree(self.lab.state / host / "upper/etc/godwit/certs", certs, dirs_exist_ok=True)
        return f"/srv/shared/{certs.name}"

    @contextmanager
    def relays(self, seed: int, *habits: str):
        """Both agents reach the coordinator through somebody with these habits (relay.py). Yields what in the end has how often
        which of them was followed."""
        address = self.lab.coordinator.address
        processes: list[subprocess.Popen] = []
        done: Counter[str] = Counter()
        try:
            for host in self.lab.nodes:
                at = f"{address}:{RELAY_PORT + host.number}"
                with open(self._relay_log(host.name), "w") as log:
                    processes.append(self.start(COORDINATOR, "python3", str(RELAY), at, f"{address}:7440", "/etc/godwit/certs",
                                                self.stolen_certs(host.name), str(seed + host.number), *habits, stdout=log))
                self._relays[host.name] = at
            self._restart(list(self._relays))
            yield done
            if any(process.poll() is not None for process in processes):
                raise RuntimeError("a relay has died")
        finally:
            concerned, self._relays = self._relays, {}
            for pid in outside.find(self.lab, COORDINATOR, str(RELAY)):
                if outside.comm_of(pid) != "nsenter":
                    os.kill(pid, signal.SIGTERM)
            for process in processes:
                process.wait(10)
            for host in concerned:
                for habit, _, count in (line.partition(": ") for line in self.relay_said(host)):
                    if count.isdigit():
                        done[habit] += int(count)
            self._restart(concerned)

    @contextmanager
    def disorder(self, seed: int, *habits: str):
        """What one agent says to the other about the end of a migration goes through somebody with these habits (between.py).
        A host that is rebooted meanwhile is rid of him. Yields a list that in the end has how many words each has repeated."""
        one, other = self.lab.nodes
        between, repeated = [], []
        try:
            for here, there in ((one, other), (other, one)):
                process = self.start(here.name, "python3", str(BETWEEN), f"{there.address}:{AGENT_PORT}",
                                     self.stolen_certs(there.name), self.stolen_certs(here.name), str(seed + here.number),
                                     *habits, stdout=subprocess.PIPE)
                between.append((here, here.pid, process))
                if process.stdout.readline() != "listening\n":
                    raise RuntimeError("nobody stands between the agents")
                wire.divert(here.pid, here.address, there.address, AGENT_PORT)
            yield repeated
        finally:
            repeated += [self._end_between(*one) for one in between]

    def _end_between(self, host: hosts.Host, booted_as: int, process: subprocess.Popen) -> int:
        """How many words were repeated."""
        now = self.lab.hosts[host.name]
        if now.pid == booted_as:
            wire.divert_no_more(now.pid)
        for pid in outside.find(self.lab, host.name, str(BETWEEN)):
            if outside.comm_of(pid) != "nsenter":
                os.kill(pid, signal.SIGTERM)
        return int(process.communicate(timeout=10)[0].strip() or 0)

    def tell_relay(self, host: str, sig: signal.Signals) -> None:
        for pid in outside.find(self.lab, COORDINATOR, self._relays[host]):
            if outside.comm_of(pid) != "nsenter":  # which waits for it, with the same arguments
                os.kill(pid, sig)

    def relay_said(self, host: str) -> list[str]:
        return outside.read(self._relay_log(host)).splitlines()

    def _relay_log(self, host: str) -> Path:
        return self.lab.state / f"relay-{host}.log"

    def is_stopped(self, host: str) -> bool:
        return any(outside.state_of(pid) == outside.STOPPED for pid in self.daemon_pids(host))

    def signal_daemon(self, host: str, sig: signal.Signals) -> None:
        for pid in self.daemon_pids(host):
            os.kill(pid, sig)

    def reboot(self, host: str) -> None:
        """Without its daemon, which mend() starts as it starts all that have died."""
        self.power_off(host)
        self.power_on(host)

    def power_off(self, host: str) -> None:
        hosts.power_off(self.lab, self.lab.hosts[host])
        self.lab.save()

    def power_on(self, host: str) -> None:
        hosts.power_on(self.lab, self.lab.hosts[host])
        self.lab.save()

    def state_of(self, host: str) -> Path:
        """What its daemon has been given as --state."""
        return self._on(host, "/var/lib/godwit")

    def filler(self, host: str) -> Path:
        """What a full disk is full of."""
        return self.lab.state / host / "disk" / "filler"

    def records(self, host: str) -> Path:
        return outside.records_of(self.lab, host)

    # The coordinator's journal, as it could be put into a backup and out of one.

    def _journal(self) -> list[Path]:
        return list((self.lab.state / COORDINATOR / "disk").glob("journal.db*"))

    def backup(self) -> dict[Path, bytes]:
        stood_still = self.is_stopped(COORDINATOR)
        self.signal_daemon(COORDINATOR, signal.SIGSTOP)
        files = {path: path.read_bytes() for path in self._journal()}
        if not stood_still:
            self.signal_daemon(COORDINATOR, signal.SIGCONT)
        return files

    def put_back(self, files: dict[Path, bytes]) -> None:
        """Of a coordinator that does not run."""
        for path in self._journal():
            path.unlink()
        for path, content in files.items():
            path.write_bytes(content)

    def cut_off(self, one: str, other: str) -> None:
        """From each other, in both directions."""
        for sender, receiver in ((one, other), (other, one)):
            wire.lose(self.lab.hosts[sender].pid, self.lab.hosts[receiver].address)

    def mend(self) -> None:
        """Undoes whatever a fault may have done, and starts what has died."""
        self.disarm()
        for host in self.lab.hosts.values():
            wire.find_again(host.pid)
            wire.connect(self.lab.switch, host.name, True)
            wire.limit(self.lab.switch, host.pid, host.name, 0)
        for host in self.lab.with_daemon:
            self.filler(host.name).unlink(missing_ok=True)
            self.signal_daemon(host.name, signal.SIGCONT)
            if not self.daemon_pids(host.name):
                self.start_daemon(host.name)
        self.wait_until_registered()

    def wait_until_registered(self) -> None:
        daemons.wait_until_registered(self.lab)

    def _on(self, host: str, path: str) -> Path:
        return Path(f"/proc/{self.lab.hosts[host].pid}/root{path}")

    def _put(self, host: str, path: str, text: str) -> None:
        """At once: a daemon may be reading it."""
        draft = self._on(host, path + ".draft")
        draft.write_text(text)
        draft.rename(self._on(host, path))

    def arm(self, host: str, fault: str) -> None:
        self._put(host, FAULT_FILE, fault)

    def armed(self, host: str) -> str:
        """What has not happened yet."""
        return outside.read(self._on(host, FAULT_FILE))

    def set_clock(self, host: str, seconds: int) -> None:
        """How far the time of day of its daemon is off."""
        self._put(host, CLOCK_FILE, str(seconds))

    def disarm(self) -> None:
        for host in self.lab.with_daemon:
            for path in (FAULT_FILE, CLOCK_FILE):
                self._on(host.name, path).unlink(missing_ok=True)

    # The workload.

    def run_redis(self, size: int = SIZE) -> None:
        self.data = redis.Dataset(keys=size // VALUE, value_size=VALUE)
        redis.start_redis(self, REDIS, "h1")
        self.data.load(self, "h1")
        self._log_begun = False

    def start_redis(self) -> None:
        self.run_redis()
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

    def hosts_with_copies(self) -> set[str]:
        return {host.name for host in self.lab.nodes if outside.copies(self.lab, host.name, "redis-server")}

    def other(self, host: str) -> str:
        return "h2" if host == "h1" else "h1"

    def migrate_command(self, workload: str, to: str, *options: str, tcp_close: bool = True) -> list[str]:
        closing = ["--tcp-close"] if tcp_close else []
        return ["migrate", workload, "--to", to, *closing, "--json", "--no-progress", *options]

    def try_migrate(self, workload: str, to: str, *options: str, tcp_close: bool = True,
                    timeout: float = 120) -> tuple[int, str]:
        """The exit code, and the report with whatever else was said."""
        command = self.migrate_command(workload, to, *options, tcp_close=tcp_close)
        done = daemons.godwit(self.lab, *command, timeout=timeout)
        return done.returncode, done.stdout + done.stderr

    def begin_migrate(self, workload: str, to: str, *options: str) -> subprocess.Popen:
        return self.start(CLIENT, "godwit", *self.migrate_command(workload, to, *options), stdout=subprocess.PIPE,
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
        if not load.is_abandoned:
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
        daemons_run = all(self.daemon_pids(host.name) for host in self.lab.with_daemon)
        return bool(where) and daemons_run and self.listed() == [(where, "running")] and not self.wait_settled(where)


class Load(redis.Client):
    def __init__(self, bed: Bed, go_on: bool):
        self._bed = bed
        command = [redis.TOOL, "write", "--workload", REDIS, "--port", str(redis.PORT), "--rate", str(RATE), "--log",
                   redis.LOG, *bed.data.flags]
        self._process = bed.start(CLIENT, *command, *(["--go-on"] if go_on else []), stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE)
        time.sleep(0.3)  # it writes by then

    def finish(self) -> None:
        self.report = self.stop()
        self.verdict = self._bed.data.verify(self._bed, self._bed.where(), self)

    is_abandoned = False

    def abandon(self) -> None:
        """Of a redis that is gone, nobody knows what it held."""
        self.is_abandoned = True
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
