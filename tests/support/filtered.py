"""What the maker of a process may have put upon it: for `preexec_fn`, as root.

  filtered.py PROGRAM ARGUMENT...    becomes that program, and the calls that who carries it makes would be its death"""

import ctypes
import os
import struct
import sys

ALLOWED, DEADLY = 0x7FFF0000, 0x80000000  # SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS
CARRIERS = {"ptrace": 101, "chroot": 161, "unshare": 272, "setns": 308, "kcmp": 312, "seccomp": 317, "userfaultfd": 323,
            "pidfd_open": 434, "clone3": 435, "close_range": 436, "pidfd_getfd": 438}


def prctl(what: int, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(what, *arguments, *(0,) * (4 - len(arguments))):
        raise OSError(ctypes.get_errno())


def failing(error: int) -> int:
    return 0x50000 | error  # SECCOMP_RET_ERRNO


def without_new_privileges() -> None:
    prctl(38, 1)  # PR_SET_NO_NEW_PRIVS


def filter_calls(numbers: list[int], verdict: int) -> None:
    """In a new process: from now on these system calls end so."""
    load, equal, back = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
    steps = [(load, 0, 0, 0)]
    for number in numbers:
        steps += [(equal, 0, 1, number), (back, 0, 0, verdict)]
    steps.append((back, 0, 0, ALLOWED))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("=H6xQ", len(steps), ctypes.addressof(code)))
    prctl(22, 2, program)  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


if __name__ == "__main__":
    without_new_privileges()
    filter_calls(list(CARRIERS.values()), DEADLY)
    os.execv(sys.argv[1], sys.argv[1:])
