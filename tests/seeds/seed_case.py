"""What the tests of the five sequences share: a lab of two hosts without daemons, a workload under load on one of them, and
command lines run there as they stand in docs/commands.md."""

import os
import subprocess
import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path[:0] = [str(REPOSITORY / place) for place in ("deploy/demo.d", "deploy/lab.d", "tests/support")]
os.environ.setdefault("GODWIT_LAB", f"godwit-seeds-{os.getpid()}")

import machine  # noqa: E402
from godwit_lab import cgroups, hosts  # noqa: E402
from godwit_lab.hosts import Lab  # noqa: E402
from page import Line  # noqa: E402
from page_files import page_blocks  # noqa: E402
from waiting import WITHIN, wait_until  # noqa: E402

SOURCE, DESTINATION = "h1", "h2"
PORT = 6390


class Bed(machine.DemoLab):
    def __init__(self, agents: bool):
        super().__init__(keep=False, link=0, needed_bytes=1 << 30)
        self._agents = agents

    def __enter__(self) -> "Bed":
        self._tool("down")
        self._tool("up", "2", *([] if self._agents else ["--no-daemons"]))
        self.lab = Lab.load(machine.NAME)
        self.name = machine.NAME
        return self

    def shell(self, host: str, command: str, **environment: str) -> subprocess.CompletedProcess:
        return hosts.run(self.lab, host, ["bash", "-c", command], environment, timeout=WITHIN, stdin=subprocess.DEVNULL,
                         capture_output=True, text=True)

    def root(self, host: str) -> Path:
        """The host's file system, as the machine sees it."""
        return Path(f"/proc/{self.lab.hosts[host].pid}/root")


def read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


class Workload:
    """A process on the source, and its home on storage that both hosts see."""

    def __init__(self, bed: Bed, name: str, command: str):
        self.bed = bed
        self.home = bed.lab.state / "shared" / name
        self.inside = f"/srv/shared/{name}"
        self.home.mkdir()
        script = f"cd /; echo $$ > {self.inside}/pid; exec {command}"
        started = bed.shell(SOURCE, f"setsid -f sh -c '{script}' > {self.inside}/output 2>&1 < /dev/null")
        if started.returncode:
            raise RuntimeError(started.stderr)
        self.pid = int(wait_until(lambda: read(self.home / "pid"), f"{name} starts"))

    def last(self, log: str) -> int:
        """The last number in a log that grows."""
        lines = read(self.home / log).split("\n")
        return int(lines[-2]) if len(lines) > 1 else -1

    def holder(self) -> int:
        """The process that keeps the tracker; 0: there is none."""
        found = self.bed.shell(SOURCE, f"pgrep -f 'godwit-engine holder -t {self.pid} '").stdout.split()
        return int(found[0]) if found else 0

    def alive(self, host: str = SOURCE) -> bool:
        return self.bed.shell(host, f"kill -0 {self.pid}").returncode == 0

    def end(self, host: str = SOURCE) -> None:
        self.bed.shell(host, f"kill -KILL {self.pid}")
        wait_until(lambda: not self.alive(host), "the end of it")


class Python(Workload):
    def __init__(self, bed: Bed, name: str):
        super().__init__(bed, name, f"/usr/bin/python3 {HERE}/worker.py {self.home_of(name)}")
        self.filled()

    @staticmethod
    def home_of(name: str) -> str:
        return f"/srv/shared/{name}"

    def filled(self):
        wait_until(lambda: self.progress() > 9000, "it fills its memory")

    def progress(self) -> int:
        return self.last("trace")

    def settle(self) -> None:
        """What is restored goes on with the trace at its end."""
        self.mark = (self.home / "trace").stat().st_size

    def state(self, host: str = SOURCE) -> int:
        """The step that the restored process began after; every byte of it is checked."""
        wait_until(lambda: (self.home / "trace").stat().st_size > self.mark + 20, "it goes on")
        with open(self.home / "trace") as trace:
            trace.seek(self.mark)
            first = int(trace.readline())
        (self.home / "result").unlink(missing_ok=True)
        (self.home / "verify").touch()
        result = wait_until(lambda: read(self.home / "result"), "it verifies itself")
        if result != "pass":
            raise AssertionError(result)
        return first - 1

    slack = 0  # steps that may be in the state and not in the log

    def stop_load(self) -> None:
        pass


class Redis(Workload):
    def __init__(self, bed: Bed, name: str):
        super().__init__(bed, name, f"/usr/bin/redis-server --port {PORT} --save \"\" --appendonly no")
        wait_until(lambda: bed.shell(SOURCE, f"redis-cli -p {PORT} ping").stdout == "PONG\n", "redis answers")
        self._load = bed.start(SOURCE, "/usr/bin/python3", str(HERE / "redis_load.py"), "write", str(PORT),
                               f"{self.inside}/acknowledged")
        wait_until(lambda: self.progress() > 9000, "it is filled")

    def progress(self) -> int:
        return self.last("acknowledged")

    def settle(self) -> None:
        pass

    def state(self, host: str = SOURCE) -> int:
        done = self.bed.shell(host, f"/usr/bin/python3 {HERE}/redis_load.py verify {PORT}")
        if not done.stdout.strip().isdigit():
            raise AssertionError(done.stdout + done.stderr)
        return int(done.stdout)

    slack = 1  # written, and its answer not yet in the log

    def stop_load(self) -> None:
        self._load.terminate()
        self._load.wait(WITHIN)


WORKLOADS = {"python": Python, "redis": Redis}


class SeedCase(unittest.TestCase):
    bed: Bed
    agents = False  # whether the hosts run one

    @classmethod
    def setUpClass(cls):
        cls.bed = Bed(cls.agents).__enter__()
        cls.addClassCleanup(cls.bed.__exit__, None, None, None)

    def setUp(self):
        """A place for images of its own on both hosts."""
        self.place = "/var/tmp/" + self.id().rsplit(".", 1)[1]
        for host in (SOURCE, DESTINATION):
            self.bed.shell(host, f"rm -rf /var/tmp/images; mkdir -p {self.place}")

    def begin(self, kind: str) -> Workload:
        workload = WORKLOADS[kind](self.bed, self.id().rsplit(".", 1)[1])
        self.addCleanup(lambda: [workload.stop_load(), *(self.bed.shell(h, f"kill -KILL {workload.pid}")
                                                         for h in (SOURCE, DESTINATION))])
        return workload

    def try_line(self, line: Line | str, workload: Workload | None = None) -> subprocess.CompletedProcess:
        """Runs one line of the page. `ssh destination` leads to the other host of the lab, which has no sshd."""
        if isinstance(line, str):
            line = Line("", line)
        host = DESTINATION if line.host == "destination" else SOURCE
        environment = {"PID": str(workload.pid)} if workload else {}
        here, _, there = line.text.partition("| ssh destination ")
        if not there:
            return self.bed.shell(host, f"cd {self.place} && {line.text}", **environment)
        sender = self.bed.start(SOURCE, "bash", "-c", here, stdout=subprocess.PIPE)
        done = subprocess.run(hosts.entering(self.bed.lab.hosts[DESTINATION], ["bash", "-c", there]),
                              env=hosts.environment(), stdin=sender.stdout, capture_output=True, text=True, timeout=WITHIN,
                              preexec_fn=lambda: cgroups.join(self.bed.name, DESTINATION))
        sender.stdout.close()
        self.assertEqual(sender.wait(WITHIN), 0)
        return done

    def run_line(self, line: Line | str, workload: Workload | None = None) -> str:
        done = self.try_line(line, workload)
        self.assertEqual(done.returncode, 0, f"{line}\n{done.stdout}{done.stderr}")
        return done.stderr

    def assert_refused(self, line: str, *words: str, workload: Workload | None = None) -> None:
        done = self.try_line(line, workload)
        self.assertNotEqual(done.returncode, 0, f"{line} was done\n{done.stderr}")
        self.assertLess(done.returncode, 64, f"{line} crashed\n{done.stderr}")
        for word in words:
            self.assertIn(word, done.stderr)

    def assert_detached(self, workload: Workload, groups: str = "/") -> None:
        """That the holder has no session, terminal, output or directory of anybody else, and only such control groups."""
        holder = workload.holder()
        self.assertTrue(holder, "there is no holder")
        said = self.bed.shell(SOURCE, f"cd /proc/{holder} && ps -o sid=,tty= -p {holder} && "
                                      "readlink fd/0 fd/1 fd/2 cwd && cut -d: -f3 cgroup").stdout.split()
        self.assertEqual(said[:6], [str(holder), "?", *["/dev/null"] * 3, "/"])
        self.assertTrue(said[6:])
        for group in said[6:]:
            self.assertRegex(group, f"^{groups}$")

    def assert_between(self, state: int, before: int, after: int, workload: Workload) -> None:
        """That the state is of a moment during a command."""
        self.assertGreaterEqual(state, before)
        self.assertLessEqual(state, after + workload.slack)

    def blocks(self, directory: str) -> int:
        """Bytes that the page files of a directory take."""
        return page_blocks(self.bed.root(SOURCE) / self.place.lstrip("/") / directory)

    def size(self, directory: str) -> int:
        files = (self.bed.root(SOURCE) / self.place.lstrip("/") / directory).glob("pages-*.img")
        return sum(file.stat().st_size for file in files)
