#!/usr/bin/python3
"""The lab: what a host has of its own, and that nothing of a lab stays behind."""

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

from godwit_lab import cgroups, daemons, hosts, wire  # noqa: E402
from godwit_lab.hosts import Lab  # noqa: E402

NAME = os.environ.setdefault("GODWIT_LAB", f"godwit-e2e-{os.getpid()}")


def lab(*arguments: str, check: bool = True) -> subprocess.CompletedProcess:
    done = subprocess.run([REPOSITORY / "deploy" / "lab", *arguments], capture_output=True, text=True, timeout=60)
    if check and done.returncode:
        raise AssertionError(f"deploy/lab {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done


def on(host: str, command: str) -> str:
    return lab("exec", host, "sh", "-c", command).stdout.strip()


def traces() -> dict:
    """Whatever could belong to a lab: all links and namespaces, and what carries the name of this one."""
    def lines(*command: str) -> list[str]:
        return subprocess.run(command, capture_output=True, text=True).stdout.splitlines()

    return {
        "links": [line.split(": ")[1] for line in lines("ip", "-o", "link")],
        "namespaces": lines("ip", "netns"),
        "mounts": [line for line in Path("/proc/mounts").read_text().splitlines() if NAME in line],
        # The dead ones are the machine's init to reap.
        "processes": [line for line in lines("ps", "-eo", "pid,stat,cgroup:200,args")
                      if f"/{NAME}/" in line and not line.split()[1].startswith("Z")],
        "groups": [str(path) for top in (cgroups.unified(), cgroups.memory_v1()) if top and (path := top / NAME).exists()],
        "state": Path("/run", NAME).exists(),
        "disks": [line for line in lines("losetup", "--list", "--noheadings", "--output", "BACK-FILE") if NAME in line],
    }


def processes_of_the_lab() -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"/{NAME}/" in (entry / "cgroup").read_text():
                found.append(int(entry.name))
        except OSError:
            pass  # it has ended
    return found


def name_of(pid: int) -> str:
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return ""


def namespaces(pids: list[int]) -> set[str]:
    found = set()
    for pid in pids:
        for kind in ("mnt", "net", "pid", "ipc", "uts", "time", "cgroup"):
            try:
                found.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
            except OSError:
                pass
    return found


class LabTest(unittest.TestCase):
    def setUp(self):
        self.before = traces()
        self.addCleanup(lab, "down")

    def assert_nothing_is_left(self):
        self.assertEqual(traces(), self.before)

    def test_hosts_differ_in_everything_that_is_a_hosts_own(self):
        lab("up", "2", "--no-daemons")
        self.assertEqual(on("h1", "hostname"), "h1")
        self.assertIn("inet", on("h2", "ip -o address show eth0"))
        self.assertIn("lab-init", on("h1", "cat /proc/1/comm"))
        self.assertTrue(1000 < int(on("h1", "echo $$")) < 2000)
        self.assertTrue(2000 < int(on("h2", "echo $$")) < 3000)
        on("h1", "touch /tmp/mine /run/mine /var/lib/mine /etc/mine /dev/shm/mine")
        seen = on("h2", "ls -d /tmp/mine /run/mine /var/lib/mine /etc/mine /dev/shm/mine 2> /dev/null; true")
        self.assertEqual(seen, "")
        self.assertFalse(Path("/etc/mine").exists())

    def test_hosts_have_an_ipc_namespace_of_their_own(self):
        lab("up", "2", "--no-daemons")
        running = Lab.load(NAME)
        spaces = {os.readlink(f"/proc/{pid}/ns/ipc") for pid in ("self", *(host.pid for host in running.hosts.values()))}
        self.assertEqual(len(spaces), 1 + 3, "each host's, the coordinator's and the machine's")
        on("h1", "ipcmk --shmem 4096 && ipcmk --semaphore 1 && ipcmk --queue")
        listed = "cat /proc/sysvipc/shm /proc/sysvipc/sem /proc/sysvipc/msg | grep -vc key || true"
        self.assertEqual(on("h1", listed), "3")
        self.assertEqual(on("h2", listed), "0")

    def test_hosts_have_a_cgroup_of_their_own_which_their_memory_counts_to(self):
        lab("up", "2", "--no-daemons")
        for host in ("h1", "h2"):
            self.assertIn(f"0::/{NAME}/{host}/system", on(host, "cat /proc/self/cgroup").splitlines())
            self.assertIn(f"0::/{NAME}/{host}/system", on(host, "cat /proc/1/cgroup").splitlines())
            self.assertTrue(Lab.load(NAME).cgroup(host).is_dir(), "the agent has none")
        before = [cgroups.shmem(NAME, host) for host in ("h1", "h2")]
        on("h1", "head -c 16M /dev/zero > /tmp/large")
        grown = [cgroups.shmem(NAME, host) - was for host, was in zip(("h1", "h2"), before)]
        self.assertGreaterEqual(grown[0], 16 << 20)
        self.assertLess(grown[1], 1 << 20)

    def test_hosts_share_one_directory_that_is_the_same_file_system(self):
        lab("up", "2", "--no-daemons")
        on("h1", "echo hello > /srv/shared/note")
        self.assertEqual(on("h2", "cat /srv/shared/note"), "hello")
        self.assertEqual(on("h1", "stat -c %d:%i /srv/shared/note"), on("h2", "stat -c %d:%i /srv/shared/note"))

    def test_clocks_of_hosts_differ_by_a_day(self):
        lab("up", "2", "--no-daemons")
        up = [float(on(host, "cat /proc/uptime").split()[0]) for host in ("h1", "h2")]
        self.assertAlmostEqual(up[1] - up[0], 24 * 3600, delta=20)
        ask = "python3 -c 'import time; print(time.clock_gettime(time.CLOCK_MONOTONIC))'"
        monotonic = [float(on(host, ask)) for host in ("h1", "h2")]
        self.assertAlmostEqual(monotonic[1] - monotonic[0], 24 * 3600, delta=20)

    def test_pids_of_hosts_collide_when_asked_to(self):
        lab("up", "2", "--no-daemons", "--same-pids")
        self.assertTrue(1000 < int(on("h2", "echo $$")) < 2000)

    def test_orphans_become_children_of_the_init_and_are_reaped(self):
        lab("up", "1", "--no-daemons")
        parent = on("h1", "setsid -f sleep 0.2; sleep 0.1; ps -o ppid= -C sleep | sort -u")
        self.assertIn("1", parent.split())
        time.sleep(0.5)
        self.assertEqual(on("h1", "ps -eo stat= | grep -c Z || true"), "0")

    def test_hosts_reach_each_other_until_one_is_cut_off(self):
        lab("up", "2", "--no-daemons")
        listen = "import socket; s = socket.create_server(('', 9)); s.settimeout(8); s.accept()"
        dial = "import socket; socket.create_connection(('h2', 9), timeout=1)"
        server = subprocess.Popen([REPOSITORY / "deploy/lab", "exec", "h2", "python3", "-c", listen])
        self.addCleanup(server.wait, 10)
        time.sleep(0.5)
        lab("cut", "h2")
        self.assertNotEqual(lab("exec", "h1", "python3", "-c", dial, check=False).returncode, 0)
        lab("join", "h2")
        deadline = time.monotonic() + 5
        while lab("exec", "h1", "python3", "-c", dial, check=False).returncode and time.monotonic() < deadline:
            pass
        self.assertLess(time.monotonic(), deadline)

    def test_a_link_carries_no_more_than_its_limit(self):
        lab("up", "2", "--no-daemons", "--rate", "100")
        server = subprocess.Popen(
            [REPOSITORY / "deploy/lab", "exec", "h2", "python3", "-c",
             "import socket\ns = socket.create_server(('', 9)); s.settimeout(8); c = s.accept()[0]\n"
             "while c.recv(1 << 16): pass\nc.sendall(b'done')"])
        self.addCleanup(server.wait, 15)
        time.sleep(0.5)
        seconds = on("h1", "python3 -c \"import socket, time; t = time.time(); s = socket.create_connection(('h2', 9)); "
                     "s.sendall(bytes(6 << 20)); s.shutdown(1); s.recv(4); print(time.time() - t)\"")
        self.assertGreater(float(seconds), (6 << 20) * 8 / 100e6 * 0.8)

    def test_hosts_have_boot_ids_of_their_own(self):
        lab("up", "2", "--no-daemons")
        ids = [on(host, "cat /proc/sys/kernel/random/boot_id") for host in ("h1", "h2")]
        ids.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        self.assertEqual(len(set(ids)), 3, ids)
        self.assertTrue(all(re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", one) for one in ids), ids)

    def test_a_reboot_ends_everything_and_keeps_the_disk(self):
        lab("up", "2", "--no-daemons", "--rate", "100", "--disk", "8")
        on("h1", "touch /run/gone /tmp/gone /dev/shm/gone /var/lib/kept /var/lib/godwit/kept")
        on("h1", "setsid -f sleep 1000 > /dev/null 2>&1")
        held = Lab.load(NAME).cgroup("h1") / "held"
        held.mkdir()
        (held / "cgroup.freeze").write_text("1")
        on("h1", f"sh -c 'echo $$ > {held}/cgroup.procs; exec sleep 1000' > /dev/null 2>&1 & sleep 0.2")
        card, boot_id = (on("h1", what) for what in self.CARD_AND_BOOT_ID)

        lab("reboot", "h1", "--no-daemons")
        self.assertEqual(on("h1", "ls /run/gone /tmp/gone /dev/shm/gone /var/lib/kept /var/lib/godwit/kept 2> /dev/null; true"),
                         "/var/lib/godwit/kept\n/var/lib/kept")
        self.assertEqual(on("h1", "pgrep -x sleep || true"), "")
        self.assertFalse(held.exists())
        card_now, boot_id_now = (on("h1", what) for what in self.CARD_AND_BOOT_ID)
        self.assertEqual(card_now, card)
        self.assertNotEqual(boot_id_now, boot_id)
        self.assertLess(float(on("h1", "cat /proc/uptime").split()[0]), 60)
        self.assertIn("tbf", on("h1", "tc qdisc show dev eth0"))
        self.assertIn("h1", on("h1", "hostname"))

    CARD_AND_BOOT_ID = ("hostname -I; cat /sys/class/net/eth0/address", "cat /proc/sys/kernel/random/boot_id")

    def test_a_host_that_is_off_is_out_of_reach_until_it_is_on(self):
        lab("up", "2", "--no-daemons")
        lab("poweroff", "h2")
        for refused in (("exec", "h2", "true"), ("poweroff", "h2"), ("reboot", "h2")):
            self.assertIn("h2 is off", lab(*refused, check=False).stderr)
        self.assertIn(" off ", lab("status").stdout)
        self.assertEqual(cgroups.processes(NAME, "h2"), [])
        dial = "import socket; socket.create_connection(('h2', 9), timeout=1)"
        self.assertIn("Error", lab("exec", "h1", "python3", "-c", dial, check=False).stderr)
        lab("poweron", "h2", "--no-daemons")
        refused = lab("exec", "h1", "python3", "-c", dial, check=False).stderr
        self.assertIn("ConnectionRefusedError", refused)  # by a host that is there
        self.assertIn("h2 is on", lab("poweron", "h2", check=False).stderr)

    def test_what_is_lost_on_one_way_still_comes_on_the_other(self):
        lab("up", "2", "--no-daemons")
        running = Lab.load(NAME)
        send = "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'word', ('{}', 9))"
        hear = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('', 9)); s.settimeout(3); print(s.recv(9))"

        def arrives(sender: str, receiver: str) -> bool:
            listener = subprocess.Popen([REPOSITORY / "deploy/lab", "exec", receiver, "python3", "-c", hear],
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            while listener.poll() is None:
                lab("exec", sender, "python3", "-c", send.format(receiver))
            return "word" in listener.communicate()[0]

        wire.lose(running.hosts["h1"].pid, running.hosts["h2"].address)
        self.assertFalse(arrives("h1", "h2"))
        self.assertTrue(arrives("h2", "h1"))
        wire.find_again(running.hosts["h1"].pid)
        self.assertTrue(arrives("h1", "h2"))

    def test_a_disk_for_the_state_can_be_full(self):
        lab("up", "1", "--no-daemons", "--disk", "8")
        fill = "head -c 9M /dev/zero > /var/lib/godwit/filler"
        self.assertIn("No space left", lab("exec", "h1", "sh", "-c", fill, check=False).stderr)
        on("h1", "touch /var/lib/elsewhere")

    def test_a_second_up_is_refused(self):
        lab("up", "1", "--no-daemons")
        self.assertIn("is up", lab("up", "1", "--no-daemons", check=False).stderr)

    def test_down_leaves_nothing(self):
        lab("up", "3", "--no-daemons", "--client", "--disk", "8")
        lab("reboot", "h2", "--no-daemons")
        lab("poweroff", "h3")
        on("h1", "(setsid -f sleep 1000; unshare --mount --pid --fork sleep 1000 &) > /dev/null 2>&1")
        lab("down")
        self.assert_nothing_is_left()
        lab("down")
        self.assert_nothing_is_left()

    def test_down_leaves_nothing_after_a_crash(self):
        lab("up", "2", "--no-daemons")
        on("h1", "setsid -f sleep 1000 > /dev/null 2>&1")
        frozen = Lab.load(NAME).cgroup("h1") / "held"
        frozen.mkdir()
        (frozen / "cgroup.freeze").write_text("1")
        on("h1", f"sh -c 'echo $$ > {frozen}/cgroup.procs; exec sleep 1000' > /dev/null 2>&1 & sleep 0.2")
        os.kill(Lab.load(NAME).hosts["h2"].pid, signal.SIGKILL)
        Path("/run", NAME, "lab.json").unlink()
        lab("down")
        self.assert_nothing_is_left()

    def in_use(self) -> tuple[set[str], subprocess.Popen]:
        """A lab in which one workload has moved, and another one is on its way. Returns its namespaces and who waits."""
        lab("up", "2", "--rate", "100", "--disk", "64")
        running = Lab.load(NAME)
        fill = "import os, time\nmemory = bytearray(os.urandom(1 << 20) * 128)\nprint('filled', flush=True)\ntime.sleep(1000)"

        def godwit(*words: str):
            done = daemons.godwit(running, *words)
            self.assertEqual(done.returncode, 0, f"{words}: {done.stdout}{done.stderr}")

        godwit("run", "--name", "small", "--on", "h2", "--", "/usr/bin/sleep", "1000")
        godwit("run", "--name", "large", "--on", "h1", "--", "/usr/bin/python3", "-c", fill)
        godwit("migrate", "small", "--to", "h1")
        time.sleep(1)
        moving = hosts.popen(running, hosts.COORDINATOR, ["godwit", "migrate", "large", "--to", "h2"],
                             daemons.cli_environment(running), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
        self.addCleanup(moving.wait, 30)
        time.sleep(2)
        self.assertIsNone(moving.poll(), "it is over: 128 MiB take 10 s")
        programs = {name_of(pid) for pid in processes_of_the_lab()}
        self.assertLessEqual({"godwit-agent", "godwit-coordinator", "godwit-engine", "godwit-pageserver", "godwit-init"}, programs)
        return namespaces(processes_of_the_lab()) - namespaces([os.getpid()]), moving

    def assert_down_ends(self, seen: set[str], moving: subprocess.Popen):
        lab("down")
        # The init of its PID namespace ends a moment after this process has heard of the end of its child there.
        moving.wait(30)
        deadline = time.monotonic() + 5
        while traces()["processes"] and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assert_nothing_is_left()
        self.assertGreaterEqual(len(seen), 3 * 4)
        living = subprocess.run(["ps", "-eo", "pid=,stat="], capture_output=True, text=True).stdout.splitlines()
        everybody = namespaces([int(line.split()[0]) for line in living if not line.split()[1].startswith("Z")])
        self.assertEqual(everybody & seen, set())

    def test_down_leaves_nothing_of_a_lab_in_use(self):
        self.assert_down_ends(*self.in_use())

    def test_down_leaves_nothing_after_every_process_was_killed(self):
        seen, moving = self.in_use()
        # Agents and engines first, so that nobody tidies up; the inits of the hosts last.
        for pid in sorted(processes_of_the_lab(), reverse=True):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.assert_down_ends(seen, moving)

    def test_a_failed_up_leaves_nothing(self):
        link = Path("/run", NAME)
        link.symlink_to("/nonexistent")
        try:
            self.assertNotEqual(lab("up", "1", "--no-daemons", check=False).returncode, 0)
        finally:
            link.unlink(missing_ok=True)
        self.assert_nothing_is_left()


if __name__ == "__main__":
    unittest.main()
