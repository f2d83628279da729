#!/usr/bin/python3
"""A parent that is not any more, or never was, the dump that its child was measured against: no page of it is taken, and nothing
is freed in it."""

import json

from command_case import GODWIT, main
from filled import FilledCase
from page_files import page_blocks
from page_streams import PageServer

REFUSED = 3


class StaleCase(FilledCase):
    def dump(self, pid: int, directory: str, previous: str = "", *more: object, whole: bool | None = None) -> str:
        said = self.must("dump", "-t", pid, "-D", directory, *(["--prev-images-dir", previous] if previous else []),
                         *(more or ["-R", "--track-mem"]))
        self.assertEqual("dump.whole" in said, bool(whole), said)
        return said

    def path(self, name: str) -> str:
        return str(self.place / name)

    def assert_refused(self, *words: object, status: int = REFUSED, names: tuple[str, ...] = ()) -> None:
        done = self.run_command(*words)
        self.assertEqual(done.returncode, status, done.stdout)
        for name in names:
            self.assertIn(self.path(name), done.stdout)

    def assert_restores_with(self, directory: str, number: int) -> None:
        self.must("restore", "-d", "-D", directory)
        self.assertEqual(self.digits(), str(number))

    def blocks(self, directory: str) -> int:
        return page_blocks(self.place / directory)


class Parents(StaleCase):
    def chain(self) -> int:
        """2 is on top of 1, and 1 has then been dumped anew."""
        pid = self.begin()
        self.fill(1)
        self.dump(pid, "1")
        self.dump(pid, "2", "../1")
        self.fill(3)
        self.dump(pid, "1")
        return pid

    def test_the_chain_as_it_was_dumped_restores(self):
        pid = self.begin()
        self.fill(1)
        self.dump(pid, "1")
        self.dump(pid, "2", "../1")
        self.fill(3)
        self.end(pid)
        self.assert_restores_with("2", 1)

    def test_a_parent_that_was_dumped_again_is_not_restored_from(self):
        self.end(self.chain())
        self.assert_refused("restore", "-d", "-D", "2", names=("1", "2"))
        self.assert_restores_with("1", 3)

    def test_a_parent_further_up_that_was_dumped_again(self):
        pid = self.begin()
        self.fill(1)
        for directory, previous in (("1", ""), ("2", "../1"), ("3", "../2")):
            self.dump(pid, directory, previous)
        self.dump(pid, "1")
        self.end(pid)
        self.assert_refused("restore", "-d", "-D", "3", names=("1", "2"))

    def test_a_parent_that_a_failed_dump_has_overwritten(self):
        """All that is missing of it is what is written last."""
        pid = self.chain()
        (self.place / "1/inventory.img").unlink()
        self.end(pid)
        self.assert_refused("restore", "-d", "-D", "2", names=("1", "2"))

    def test_nothing_is_freed_in_it(self):
        self.chain()
        before = self.blocks("1")
        self.assert_refused("dedup", "-D", "2", names=("1", "2"))
        self.assertEqual(self.blocks("1"), before)

    def test_a_chain_that_is_wrong_is_shown_and_said(self):
        self.chain()
        done = self.run_command("image", "show", "2")
        self.assertEqual(done.returncode, REFUSED, done.stdout[-500:])
        for name in ("1", "2"):
            self.assertIn(self.path(name), done.stdout[-1000:])
        shown, _ = json.JSONDecoder().raw_decode(done.stdout)
        self.assertIn("inventory.img", [image["file"] for image in shown])
        self.must("image", "show", "1")

    def test_the_next_dump_on_top_of_a_wrong_chain_has_everything(self):
        pid = self.begin()
        self.fill(1)
        self.dump(pid, "1")
        self.dump(pid, "2", "../1")
        other = self.start()
        self.must("dump", "-t", other, "-D", "1", "-R")
        said = self.dump(pid, "3", "../2", whole=True)
        for name in ("1", "2"):
            self.assertIn(self.path(name), said)
        self.fill(4)
        self.end(pid)
        self.assert_restores_with("3", 1)


class Unfinished(StaleCase):
    def test_nothing_is_freed_for_a_dump_that_did_not_finish(self):
        pid = self.begin()
        self.fill(1)
        self.dump(pid, "1")
        self.fill(2)
        self.dump(pid, "2", "../1")
        (self.place / "2/inventory.img").unlink()  # what is written last
        before = self.blocks("1")
        self.assert_refused("dedup", "-D", "2", status=1, names=("2",))
        self.assertEqual(self.blocks("1"), before)
        self.fill(3)
        self.end(pid)
        self.assert_restores_with("1", 1)


class Broken(StaleCase):
    """The sets that a dump is to rest on: it says what is wrong, changes nothing there, and has everything itself."""

    def there(self) -> dict:
        return {path: (path.stat().st_blocks, path.read_bytes()) for path in sorted(self.place.glob("[12]/*.img"))}

    def test_a_dump_on_top_of_them(self):
        pid = self.begin()
        for number, (broken, options) in enumerate((("2/inventory.img", ()), (f"2/pagemap-{pid}.img", ()), ("2/pages-1.img", ()),
                                                    (f"1/pagemap-{pid}.img", ()), ("1/pages-1.img", ("--auto-dedup",)),
                                                    (f"2/pagemap-{pid}.img", ("--auto-dedup",)))):
            self.dump(pid, "1")
            self.dump(pid, "2", "../1")
            self.fill(number)
            content = (self.place / broken).read_bytes()
            (self.place / broken).write_bytes(content[:-1])
            before = self.there()
            said = self.dump(pid, "3", "../2", "-R", "--track-mem", *options, whole=True)
            self.assertRegex(said, rf"{broken.partition('/')[2]} at offset \d+")
            self.assertEqual({path for path in before if self.there()[path] != before[path]}, set())
        self.fill(7)
        self.end(pid)
        self.assert_restores_with("3", number)

    def test_pages_that_are_elsewhere(self):
        """A page server has them."""
        pid = self.begin()
        with PageServer([GODWIT], self.place / "pages", []) as server:
            self.must("pre-dump", "-t", pid, "-D", "1", *server.client_options(), program=GODWIT)
            self.assertEqual(server.wait(), 0, server.said())
        said = self.dump(pid, "2", "../1", whole=True)
        self.assertIn(f"pagemap-{pid}.img is missing", said)
        self.fill(7)
        self.end(pid)
        self.assert_restores_with("2", 0)


class ByServer(StaleCase):
    """Pages go to a page server: it stores what it is told, and knows nothing but numbers of objects."""

    def serve(self, directory: str, previous: str = "") -> PageServer:
        return PageServer([GODWIT], self.place / "pages" / directory, ["--prev-images-dir", previous] if previous else [])

    def stream(self, command: str, pid: int, directory: str, server: PageServer, *options: object) -> str:
        said = self.must(command, "-t", pid, "-D", directory, *options, *server.client_options(), program=GODWIT)
        self.assertEqual(server.wait(), 0, server.said())
        return said

    def rounds(self, parent_of_the_server: str) -> tuple[int, str]:
        """Two pre-dumps and the dump on top of the second; its server may have been started on top of another one."""
        (self.place / "pages").mkdir()
        pid = self.begin()
        self.fill(1)
        with self.serve("A") as server:
            self.stream("pre-dump", pid, "A", server)
        self.fill(2)
        with self.serve("B", "../A") as server:
            self.assertNotIn("dump.whole", self.stream("pre-dump", pid, "B", server, "--prev-images-dir", "../A"))
        with self.serve("C", f"../{parent_of_the_server}") as server:
            said = self.stream("dump", pid, "C", server, "--prev-images-dir", "../B", "--track-mem", "-R")
        return pid, said

    def copy_the_rest(self, directory: str) -> None:
        for file in (self.place / directory).glob("*.img"):
            (self.place / "pages" / directory / file.name).write_bytes(file.read_bytes())

    def test_rounds_are_differences(self):
        pid, said = self.rounds("B")
        self.assertNotIn("dump.whole", said)
        self.copy_the_rest("C")
        self.end(pid)
        self.assert_restores_with("pages/C", 2)

    def test_a_server_on_top_of_another_dump_gets_everything(self):
        pid, said = self.rounds("A")
        self.assertIn("dump.whole", said)
        self.assertIn("--prev-images-dir", said)
        self.copy_the_rest("C")
        self.end(pid)
        self.assert_restores_with("pages/C", 2)

    def test_a_parent_that_another_session_has_filled_is_not_restored_from(self):
        pid, _ = self.rounds("B")
        self.copy_the_rest("C")
        for file in (self.place / "pages/B").iterdir():
            file.unlink()
        self.fill(5)
        with self.serve("B") as server:
            self.stream("pre-dump", pid, "D", server)
        self.end(pid)
        self.assert_refused("restore", "-d", "-D", "pages/C", names=("pages/B", "pages/C"))

    def test_a_parent_further_up_that_another_session_has_filled(self):
        pid, _ = self.rounds("B")
        self.copy_the_rest("C")
        for file in (self.place / "pages/A").iterdir():
            file.unlink()
        self.fill(5)
        with self.serve("A") as server:
            self.stream("pre-dump", pid, "D", server)
        self.end(pid)
        self.assert_refused("restore", "-d", "-D", "pages/C", names=("pages/A", "pages/B"))

    def test_the_rest_of_a_dump_is_not_restored_with_the_pages_of_another(self):
        pid, _ = self.rounds("B")
        with self.serve("E") as server:
            self.stream("dump", pid, "E", server, "-R")
        for file in (self.place / "E").glob("*.img"):
            (self.place / "pages/C" / file.name).write_bytes(file.read_bytes())
        self.end(pid)
        self.assert_refused("restore", "-d", "-D", "pages/C", names=("pages/C",))

    def test_the_pages_of_an_older_dump_do_not_stay_beside_the_rest_of_a_new_one(self):
        pid = self.begin()
        self.fill(1)
        self.dump(pid, "1", "", "-R")
        self.fill(2)
        (self.place / "pages").mkdir()
        with self.serve("1") as server:
            self.stream("dump", pid, "1", server, "-R")
        self.assertEqual(list((self.place / "1").glob("page*")), [])
        self.end(pid)
        self.assert_refused("restore", "-d", "-D", "1", status=1)
        self.copy_the_rest("1")
        self.assert_restores_with("pages/1", 2)

    def test_a_server_may_share_the_directory_of_the_dump(self):
        pid = self.begin()
        self.fill(1)
        with PageServer([GODWIT], self.place / "1", []) as server:
            self.stream("dump", pid, "1", server, "-R")
        self.fill(2)
        with PageServer([GODWIT], self.place / "1", []) as server:
            self.stream("dump", pid, "1", server, "-R")
        self.end(pid)
        self.assert_restores_with("1", 2)


if __name__ == "__main__":
    main()
