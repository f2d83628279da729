#!/usr/bin/python3
"""Of what one clone has compiled, the next one, which lies elsewhere, compiles nothing again: ccache knows it all, at first
sight. With one object of the sanitized configuration, since that is the one whose objects hold paths; and of all others, that no
command line but those of the few that need it holds the clone's path."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
REPOSITORY = Path(__file__).resolve().parents[2]
OBJECT = "common/base/CMakeFiles/godwit_base.dir/fd.cc.o"
NOT_CLONED = ("build", ".git", ".cache")


class FreshCloneTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.env = {name: value for name, value in os.environ.items() if not name.startswith("CCACHE_")}
        cls.env["CCACHE_DIR"] = f"{directory.name}/cache"
        cls.first, cls.second = Path(directory.name, "first"), Path(directory.name, "at", "another", "place")
        for clone in (cls.first, cls.second):
            # Not by git: what is tested is what lies here.
            shutil.copytree(REPOSITORY, clone, symlinks=True,
                            ignore=lambda folder, _: NOT_CLONED if Path(folder) == REPOSITORY else ())
        cls.counts = [cls.build(clone) for clone in (cls.first, cls.second)]

    @classmethod
    def build(cls, clone: Path) -> dict[str, int]:
        """What ccache did for it, by ccache's own names."""
        subprocess.run(["ccache", "--zero-stats"], env=cls.env, check=True, stdout=subprocess.DEVNULL)
        subprocess.run([clone / "deploy" / "build", "dev", OBJECT], env=cls.env, check=True, stdin=subprocess.DEVNULL)
        told = subprocess.run(["ccache", "--print-stats"], env=cls.env, check=True, capture_output=True, text=True).stdout
        return {name: int(value) for name, value in (line.split("\t") for line in told.splitlines())}

    def test_the_second_one_finds_what_the_first_one_compiled(self):
        first, second = self.counts
        self.assertEqual((first["cache_miss"], first["direct_cache_hit"]), (1, 0), first)
        self.assertEqual((second["cache_miss"], second["direct_cache_hit"]), (0, 1), second)

    def test_both_make_the_same_object(self):
        first, second = ((clone / "build" / "dev" / OBJECT).read_bytes() for clone in (self.first, self.second))
        self.assertTrue(first == second, "they differ")
        self.assertFalse(str(self.first).encode() in first, "it holds the path of the clone")

    def test_only_who_reads_a_path_of_the_clone_is_compiled_with_it(self):
        commands = json.loads((self.second / "build" / "dev" / "compile_commands.json").read_text())
        self.assertGreater(len(commands), 100)
        needless = []
        for command in commands:
            for name in re.findall(rf"-D(\w+)=\S*{re.escape(str(self.second))}", command["command"]):
                source = Path(command["file"])
                # What is generated reads none.
                if not (source.exists() and re.search(rf"\b{name}\b", source.read_text())):
                    needless.append(f"{source.relative_to(self.second)}: {name}")
        self.assertEqual(needless, [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
