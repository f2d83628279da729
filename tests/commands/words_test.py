#!/usr/bin/python3
"""What the commands make of their words, whatever their order, on a real process."""

from command_case import GODWIT, CommandCase, main


class Words(CommandCase):
    def images(self, directory: str = ".") -> set[str]:
        return {file.name for file in (self.place / directory).glob("*.img")}

    def test_the_images_directory_is_the_working_directory_unless_another_is_named(self):
        pid = self.start()
        self.must("dump", "-t", pid)
        self.assert_ended(pid)
        self.assertLessEqual({"inventory.img", f"core-{pid}.img", "pages-1.img"}, self.images())
        self.must("restore", "-d")
        self.assert_runs_on(pid)

    def test_options_may_stand_in_front_of_the_command(self):
        """As CRIU takes them; also when what they say looks like a command."""
        pid = self.start()
        said = self.must("-v4", "-RD", "dump", "-t", pid, "dump", "--track-mem", program=GODWIT)
        self.assertIn("dump.done", said)
        self.assert_runs_on(pid)
        self.must("--prev-images-dir", "../dump", "--images-dir=2", "dump", f"-t{pid}", program=GODWIT)
        self.assert_ended(pid)
        for directory in ("dump", "2"):
            self.assertIn("inventory.img", self.images(directory))
        self.must("-W", ".", "--pidfile", "restore", "-D", "2", "-d", "restore", program=GODWIT)
        self.assertEqual((self.place / "restore").read_text(), f"{pid}\n")
        self.assert_runs_on(pid)
        self.must("-s", "-t", pid, "-D", "3", "dump", program=GODWIT)
        self.must("-t", pid, "kill", program=GODWIT)
        self.assert_ended(pid)

    def test_nor_need_the_words_of_a_command_stand_together(self):
        for line in ("-D cpu cpuinfo dump", "cpuinfo -D cpu check"):
            self.must(*line.split(), program=GODWIT)
        self.assertEqual(self.images("cpu"), {"cpuinfo.img"})
        self.assertIn("cpuinfo.img", self.must("image", "show", "cpu", program=GODWIT))


if __name__ == "__main__":
    main()
