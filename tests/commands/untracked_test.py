#!/usr/bin/python3
"""What was written between two dumps is not known: the second one has everything, says so and names no parent."""

import ctypes
import os

from command_case import COUNTER, CommandCase, main

# Registers a part of its memory with a userfaultfd, says which that is, and counts when it is told to.
REGISTERED = f"""
import ctypes, fcntl, mmap, os, struct, time
SIZE, USERFAULTFD, USER_MODE_ONLY, API, REGISTER, WRITE_PROTECT = 1 << 20, 323, 1, 0xc018aa3f, 0xc020aa00, 2
memory = mmap.mmap(-1, SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
fd = ctypes.CDLL(None).syscall(USERFAULTFD, os.O_CLOEXEC | USER_MODE_ONLY)
fcntl.ioctl(fd, API, bytearray(struct.pack("QQQ", 0xaa, 0, 0)))
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
fcntl.ioctl(fd, REGISTER, bytearray(struct.pack("QQQQ", address, SIZE, WRITE_PROTECT, 0)))
print(fd, flush=True)
while not os.path.exists("GO"):
    time.sleep(0.01)
os.close(fd)
{COUNTER}
"""
UNTRACKABLE = {"GODWIT_FAULT": "engine.inject.userfaultfd=fail:kernel_missing"}


class Untracked(CommandCase):
    def assert_whole(self, pid: int, images: str, said: str) -> None:
        self.assertIn("dump.whole", said)
        self.assertIn("what was written since is not known", said)
        self.assertFalse((self.place / images / "parent").is_symlink())
        self.assert_ended(pid)
        self.assert_restores(pid, images)

    def test_a_kernel_that_cannot_track(self):
        for first in (["dump", "-R", "--track-mem"], ["pre-dump"]):
            pid = self.start()
            said = self.must(*first, "-t", pid, "-D", "1", env=UNTRACKABLE)
            self.assertIn("tracker.none", said)
            if first[0] == "dump":
                said = self.must("dump", "-R", "--track-mem", "-t", pid, "-D", "2", "--prev-images-dir", "../1", env=UNTRACKABLE)
                self.assertIn("dump.whole", said)
                self.assertFalse((self.place / "2/parent").is_symlink())
            said = self.must("dump", "-t", pid, "-D", "3", "--prev-images-dir", "../1")
            self.assert_whole(pid, "3", said)
            self.end_all()
            self.output.unlink()

    def test_somebody_else_tracks_it(self):
        """By what the kernel says, who looked at the same pages would take the other's changes away. It is refused by name."""
        go = self.place / "go"
        pid = self.start(REGISTERED.replace("GO", str(go)))
        theirs = pidfd_getfd(os.pidfd_open(pid), int(self.lines()[0]))
        self.addCleanup(os.close, theirs)
        self.output.write_text("")
        go.touch()
        for command in (["dump", "-R", "--track-mem"], ["pre-dump"]):
            done = self.run_command(*command, "-t", pid, "-D", "1")
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertIn(f"process {pid} is being tracked by somebody else", done.stdout)
            self.assertIn("dump.unusable", done.stdout)
            self.assert_runs_on(pid)
        said = self.must("dump", "-t", pid, "-D", "2", "--prev-images-dir", "../1")
        self.assert_whole(pid, "2", said)


def pidfd_getfd(pidfd: int, number: int) -> int:
    fd = ctypes.CDLL(None, use_errno=True).syscall(438, pidfd, number, 0)
    os.close(pidfd)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "take over a descriptor")
    return fd


if __name__ == "__main__":
    main()
