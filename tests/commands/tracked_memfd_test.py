#!/usr/bin/python3
"""Memory that a process had at one tracked dump and has no more: it is not in the next, and the tracker does not keep it alive."""

import os
import signal

from command_case import CommandCase, main, wait_until

# Has one memfd with a name of its own, and on SIGUSR1 another one instead.
PROGRAM = """
import os, signal
made = 0
fd = -1
def make(*_):
    global fd, made
    if fd >= 0:
        os.close(fd)
    fd = os.memfd_create(f"number-{made}")
    os.write(fd, os.urandom(1 << 20))
    print(made, flush=True)
    made += 1
signal.signal(signal.SIGUSR1, make)
make()
while True:
    signal.pause()
"""
DUMPS = 4


class TrackedMemfd(CommandCase):
    def held_by(self, pid: int) -> set[str]:
        links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        return {link for link in links if link.startswith("/memfd:number-")}

    def test_only_the_one_that_is_there_is_dumped_and_held(self):
        pid = self.start(PROGRAM)
        for number in range(DUMPS):
            previous = ["--prev-images-dir", f"../{number - 1}"] if number else []
            self.must("dump", "-t", pid, "-D", str(number), "-R", "--track-mem", *previous)
            self.assertEqual(len(list((self.place / str(number)).glob("pagemap-shmem-*.img"))), 1)
            self.assertEqual(self.held_by(self.holder(pid)), {f"/memfd:number-{number} (deleted)"})
            os.kill(pid, signal.SIGUSR1)
            wait_until(lambda: len(self.lines()) == number + 2, "it makes another one")
        self.end(pid)
        self.must("restore", "-d", "-D", str(DUMPS - 1))
        self.assertEqual(self.held_by(pid), {f"/memfd:number-{DUMPS - 1} (deleted)"})


if __name__ == "__main__":
    main()
