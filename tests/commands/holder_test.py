#!/usr/bin/python3
"""The holder, and the notes that a dump leaves: who may hold them up, and a PID that is used again."""

import os
import shutil
import signal
import socket
import time
from pathlib import Path

from command_case import RUN, CommandCase, main, start_time, stat_of, wait_until

PID = 500
REFUSED = 3
RECVMSG = "47"

# Says again and again what it has in its memory, which is anew at random each time that it is run. When it finds a file it runs
# the words in it.
AT_RANDOM = """
import hashlib, os, time
memory = bytearray(os.urandom(1 << 20))
n = 0
while True:
    print(n, hashlib.sha256(memory).hexdigest(), flush=True)
    n += 1
    if os.path.exists("GO"):
        words = open("GO").read().split(chr(0))
        os.unlink("GO")
        os.execv(words[0], words)
    time.sleep(0.005)
"""


def switches(pid: int) -> int:
    """As the note has it: how often the threads have been taken off a CPU."""
    lines = [line for task in Path(f"/proc/{pid}/task").iterdir() for line in (task / "status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)


class HolderCase(CommandCase):
    def track(self, pid: int) -> int:
        self.must("dump", "-t", pid, "-D", "1", "-R", "--track-mem")
        return wait_until(lambda: self.holder(pid), "a holder")


class Holder(HolderCase):
    def test_a_client_that_says_nothing_holds_nobody_up(self):
        pid = self.start()
        self.track(pid)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
            silent.connect(str(RUN / f"{pid}.{start_time(pid)}.holder"))
            said = self.must("dump", "-t", pid, "-D", "2", "-R", "--track-mem", "--prev-images-dir", "../1")
            self.assertNotIn("dump.whole", said)
            self.assertNotEqual(silent.recv(4096), b"", "it is greeted")
            self.assertIn(b"has not waited", silent.recv(4096), "and told")
            self.assertEqual(silent.recv(4096), b"", "and given up")
        self.assert_runs_on(pid)

    def test_a_command_that_was_given_up_leaves_the_work_of_others_alone(self):
        """It is stopped between the holder's greeting and its request, and goes on while another one dumps."""
        pid = self.start()
        self.track(pid)
        holder = self.holder(pid)
        os.kill(holder, signal.SIGSTOP)
        late = self.begin_command("dump", "-t", pid, "-D", "late", "-R", "--track-mem")
        wait_until(lambda: Path(f"/proc/{late.pid}/syscall").read_text().split()[0] == RECVMSG, "it waits for the greeting")
        os.kill(late.pid, signal.SIGSTOP)
        os.kill(holder, signal.SIGCONT)
        script = self.script(f"kill -CONT {late.pid}", f"while [ ! -e {self.place}/go ]; do sleep 0.1; done")
        other = self.begin_command("dump", "-t", pid, "-D", "2", "-R", "--track-mem", "--prev-images-dir", "../1",
                                   "--action-script", script)
        began = time.monotonic()
        said = late.communicate(timeout=60)[0]
        self.assertLess(time.monotonic() - began, 20, "it does not wait for the holder to end")
        self.assertEqual(late.returncode, 1, said)
        self.assertIn("has not waited for this command", said)
        self.assertEqual(stat_of(pid)[0], "t", f"the other dump has it stopped: {said}")
        (self.place / "go").touch()
        said = other.communicate(timeout=60)[0]
        self.assertEqual(other.returncode, 0, said)
        self.assertNotIn("dump.whole", said)
        self.assertEqual(self.holder(pid), holder)
        self.assert_runs_on(pid)

    def test_a_dump_that_comes_before_the_holder_has_seen_an_exec(self):
        """Of another program, and of the same one with the same words."""
        go = self.place / "go"
        program = AT_RANDOM.replace("GO", str(go))
        for number, text in enumerate((program + "# another", program)):
            pid = self.start(program)
            one, two = (f"{number}.{n}" for n in (1, 2))
            self.must("dump", "-t", pid, "-D", one, "-R", "--track-mem")
            holder = self.holder(pid)
            os.kill(holder, signal.SIGSTOP)
            wait_until(lambda: stat_of(holder)[0] == "T", "the holder stops")
            before = self.lines()[-1].split()[1]
            (self.place / "draft").write_text("\0".join(["/usr/bin/python3", "-c", text]))
            (self.place / "draft").rename(go)
            new = wait_until(lambda: next((d for d in self.digests() if d != before), ""), "it runs the program")
            dump = self.begin_command("dump", "-t", pid, "-D", two, "--prev-images-dir", f"../{one}")
            wait_until(lambda: Path(f"/proc/{dump.pid}/syscall").read_text().split()[0] == RECVMSG, "it waits for the holder")
            os.kill(holder, signal.SIGCONT)
            said = dump.communicate(timeout=60)[0]
            self.assertEqual(dump.returncode, 0, said)
            self.assertIn("dump.whole", said)
            self.assertIn("it ran another program", said)
            self.assertFalse((self.place / two / "parent").is_symlink())
            self.assert_ended(pid)
            count = len(self.lines())
            self.must("restore", "-d", "-D", two)
            self.assert_runs_on(pid)
            self.assertEqual(set(self.digests()[count:]), {new})
            self.end_all()
            self.output.unlink()

    def digests(self) -> list[str]:
        return [line.split()[1] for line in self.lines()]


class UsedAgain(HolderCase):
    """The start time tells whose a file in /run is."""

    def test_a_holder_is_not_that_of_the_next_process(self):
        self.track(self.start(pid=PID))
        holder = self.holder(PID)
        os.kill(holder, signal.SIGSTOP)  # it does not hear that its process has ended
        self.end(PID)
        self.start(pid=PID)
        said = self.must("dump", "-t", PID, "-D", "2", "--prev-images-dir", "../1")
        self.assertIn("nothing tracks this process", said)
        self.assert_ended(PID)
        self.assertEqual(self.holder(PID), holder, "it was asked")
        os.kill(holder, signal.SIGCONT)
        wait_until(lambda: not self.holder(PID), "it ends")

    def test_a_holder_does_not_begin_with_the_next_process(self):
        """Its process has ended while it was started."""
        first = start_time(self.start(pid=PID))
        self.end(PID)
        self.start(pid=PID)
        self.assertNotEqual(start_time(PID), first)
        RUN.mkdir(mode=0o700, exist_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(RUN / f"{PID}.{first}.holder"))
            listener.listen()
            began = time.monotonic()
            done = self.run_command("holder", "-t", PID, "--control-fd", listener.fileno(), pass_fds=[listener.fileno()])
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn(f"process {PID} is another one by now", done.stdout)
        self.assertLess(time.monotonic() - began, 5)

    def test_a_note_is_not_that_of_the_next_process(self):
        """Though all that the note says is true of it."""
        for command in ("kill", "resume"):
            pid = self.start(pid=PID)
            self.must("dump", "-t", pid, "-D", "1", "--leave-stopped")
            note, = RUN.glob(f"{PID}.*stopped")
            self.end(pid)
            self.start(pid=PID)
            os.kill(PID, signal.SIGSTOP)
            wait_until(lambda: stat_of(PID)[0] == "T", "it stops")
            generation, _, others_stop = note.read_text().split()
            note.write_text(f"{generation} {switches(PID)} {others_stop}\n")
            done = self.run_command(command, "-t", PID)
            self.assertEqual(done.returncode, REFUSED, done.stdout)
            self.assertIn(f"process {PID} was not left stopped by a dump", done.stdout)
            self.assertEqual(stat_of(PID)[0], "T")
            # The same under its own name is what is believed.
            shutil.move(note, RUN / f"{PID}.{start_time(PID)}.stopped")
            self.must(command, "-t", PID)
            self.end_all()

    def test_commands_that_come_at_once_share_one_holder(self):
        """Each that comes too late for a tracker of its own is served by the other's, or says that it is busy."""
        pid = self.start()
        for attempt in range(8):
            at_once = [self.begin_command("dump", "-t", pid, "-D", f"{attempt}.{n}", "-R", "--track-mem") for n in range(3)]
            said_by = [command.communicate(timeout=60)[0] for command in at_once]
            self.assertIn(0, [command.returncode for command in at_once], said_by)
            for command, said in zip(at_once, said_by):
                self.assertIn(command.returncode, (0, 1), said)
                if command.returncode:
                    self.assertIn("busy", said)
            self.assertEqual(len(list(self.holders(pid))), 1, "one tracker")
            if attempt % 2:
                os.kill(self.holder(pid), signal.SIGKILL)
                wait_until(lambda: not self.holder(pid), "the holder is gone")
        self.assert_runs_on(pid)


if __name__ == "__main__":
    main()
