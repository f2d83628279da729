#!/usr/bin/python3
"""deploy/install-deps, on a machine where everything is there (tests/run has seen to that): that a second run does nothing at
all. And what it does about a package that is missing, with an apt-get that only says what it is asked for."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
REPOSITORY = Path(__file__).resolve().parents[2]
TOOL = REPOSITORY / "deploy" / "install-deps"
POLICY = "/usr/sbin/policy-rc.d"
QUICK_S = 20  # it asks dpkg about each package, which takes a second on a machine with nothing else to do
NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")

MISSING = "spin"  # as far as the tool is told
DPKG_QUERY = f"""#!/bin/bash
if [[ ${{!#}} == {MISSING} ]]; then exit 1; fi
exec /usr/bin/dpkg-query "$@"
"""
APT_GET = f"""#!/bin/bash
echo "$*" >> "$CALLS"
if [[ -x {POLICY} ]]; then {POLICY}; echo "services: $?" >> "$CALLS"; fi
exit "${{APT_STATUS:-0}}"
"""


def state() -> dict:
    """Whatever an installation would change."""
    dpkg = Path("/var/lib/dpkg/status")
    return {"packages": dpkg.read_bytes(), "written": dpkg.stat().st_mtime_ns, "policy": os.path.exists(POLICY),
            "lists": sorted((entry.name, entry.stat().st_mtime_ns) for entry in Path("/var/lib/apt/lists").iterdir())}


class InstallDepsTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.tools = Path(directory.name)
        self.tools.chmod(0o755)
        self.calls = self.tools / "calls"
        # Where everybody may read it.
        self.tool = shutil.copy(TOOL, self.tools)

    def put(self, name: str, script: str):
        (self.tools / name).write_text(script)
        (self.tools / name).chmod(0o755)

    def run_it(self, *wrapper: str, **settings: str) -> subprocess.CompletedProcess:
        env = {"PATH": f"{self.tools}:/usr/sbin:/usr/bin:/sbin:/bin", "CALLS": str(self.calls), **settings}
        return subprocess.run([*wrapper, self.tool], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=120)

    def asked(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def test_a_second_run_is_quick_and_changes_nothing(self):
        self.put("apt-get", APT_GET)
        before, started = state(), time.monotonic()
        done = self.run_it("unshare", "--net")  # and so without any network
        self.assertEqual((done.returncode, done.stdout), (0, ""))
        self.assertLess(time.monotonic() - started, QUICK_S)
        self.assertEqual(self.asked(), [])
        self.assertEqual(state(), before)

    def test_a_second_run_needs_no_root(self):
        done = self.run_it(*NOBODY)
        self.assertEqual((done.returncode, done.stdout), (0, ""))

    def without_a_package(self, *wrapper: str, **settings: str) -> subprocess.CompletedProcess:
        self.put("apt-get", APT_GET)
        self.put("dpkg-query", DPKG_QUERY)
        return self.run_it(*wrapper, **settings)

    @staticmethod
    def with_own_sbin(script: str) -> tuple[str, ...]:
        """It says there that no service is to be started, and must not say so for long."""
        return "unshare", "--mount", "sh", "-euc", f"mount -t tmpfs none /usr/sbin; {script}; test ! -e {POLICY}"

    def test_only_what_is_missing_is_fetched_and_no_service_is_started(self):
        before = state()
        done = self.without_a_package(*self.with_own_sbin('"$0"'))
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual(done.stdout, f"install-deps: installing {MISSING}\n")
        update, services, install, _ = self.asked()
        self.assertTrue(update.endswith(" update"), update)
        self.assertTrue(install.endswith(f" install --no-install-recommends {MISSING}"), install)
        self.assertEqual(services, "services: 101")
        self.assertEqual(state(), before)

    def test_it_fails_when_apt_does(self):
        done = self.without_a_package(*self.with_own_sbin('! "$0"'), APT_STATUS="100")
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual(len([call for call in self.asked() if "services" not in call]), 1, self.asked())

    def test_who_is_not_root_is_told_what_is_missing(self):
        done = self.without_a_package(*NOBODY)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"missing, run this with sudo: {MISSING}\n", done.stdout)
        self.assertEqual(self.asked(), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
