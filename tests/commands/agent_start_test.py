#!/usr/bin/python3
"""An agent that could not help passing on what it is under itself does not start."""

import os

from command_case import BIN, CommandCase, main
from filtered import failing, filter_calls, without_new_privileges

EPERM, KEXEC_LOAD = 1, 246


class AgentStart(CommandCase):
    def test_what_its_workloads_would_inherit_is_refused(self):
        for under, name, hint in ((without_new_privileges, "no_new_privs", "NoNewPrivileges="),
                                  (lambda: filter_calls([KEXEC_LOAD], failing(EPERM)), "a seccomp filter", "SystemCallFilter=")):
            with self.subTest(name):
                done = self.run_command("--node", "a", "--coordinator", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--pages",
                                        "127.0.0.1:0", "--cgroup", self.place / "group", "--certs", self.place, "--state",
                                        self.place / "state", program=BIN / "godwit-agent", preexec_fn=under)
                self.assertEqual(done.returncode, 1, done.stdout)
                self.assertIn(f"the agent runs with {name}, which its workloads would inherit", done.stdout)
                self.assertIn(hint, done.stdout)
                self.assertFalse(os.path.exists(self.place / "state"), "it has begun")


if __name__ == "__main__":
    main()
