#!/usr/bin/python3
"""Redis under load is moved to and fro, most of the time with a fault of the table (cells.py) in some phase. Ends with a
line of counts and with 1 if a write was lost, redis lived twice or nowhere, or anything was left behind; also if no move
arrived, or none was disturbed.

  soak.py [--minutes N] [--seed S] [--logs DIR]

Every other fault strikes at some moment within the phase, not as it is entered; one that comes when the migration has ended
is not counted among the faults. The seed decides the moves, the faults
and the moments; what a step has done by then it cannot decide. --logs keeps the daemons' logs of what went wrong."""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from bed import REDIS, Bed, outside
from cell_run import GONE, PATIENT, End, When, await_end, run_cell
from cells import LASTS_S, Fault, cells
from godwit_lab import daemons
from relay import ANSWERS_IN_DISORDER, DISORDER

UNDISTURBED = 0.25  # of the moves
WITHIN = 0.5  # of the faults
RELAYED = 0.2  # of the rounds: the coordinator's commands come in disorder, or what the agents answer does
BETWEEN = 0.2  # of the rounds: what the agents say to each other does, besides any fault
MOVES_OF_A_ROUND = 5  # then a new round may begin, with other habits
HABITS = (("late",), ("twice",), ("late", "twice"), ("old",), ("mute",), DISORDER, ANSWERS_IN_DISORDER,
          (*DISORDER, *ANSWERS_IN_DISORDER))


class Soak:
    def __init__(self, seed: int, logs: Path | None):
        self._random, self._seed, self._logs = random.Random(seed), seed, logs
        self._cells = cells()
        self.counts = Counter(moves=0, arrived=0, faults=0, faults_too_late=0, lost_writes=0, double_lives=0, none_alive=0, left_overs=0,
                              gone_with_node=0)
        self.troubles = 0

    def run(self, until: float) -> None:
        while time.monotonic() < until:
            with Bed() as bed:
                bed.start_redis()
                while time.monotonic() < until and self._round(bed, until):
                    pass

    def _round(self, bed: Bed, until: float) -> bool:
        """Whether the bed can be used for another one."""
        kind = self._random.random()
        habits = self._random.choice(HABITS) if kind < RELAYED else ()
        between = RELAYED <= kind < RELAYED + BETWEEN
        with ExitStack() as relays:
            if habits:
                relays.enter_context(bed.relays(self._random.randrange(1 << 30), *habits))
            if between:
                relays.enter_context(bed.disorder(self._random.randrange(1 << 30), *DISORDER))
            for _ in range(MOVES_OF_A_ROUND):
                if time.monotonic() >= until:
                    return True
                try:
                    problems = self._move(bed, habits, between)
                except (RuntimeError, OSError, ValueError, subprocess.SubprocessError) as error:
                    problems = [f"{type(error).__name__}: {error}"]
                if problems:
                    self._trouble(bed, problems)
                    return False
        return True

    def _move(self, bed: Bed, habits: tuple[str, ...], between: bool) -> list[str]:
        # Behind a relay the addresses are others, and what is rebooted forgets its relay: only commands go wrong there.
        disturbed = not habits and self._random.random() >= UNDISTURBED
        phase, fault = self._random.choice(self._cells) if disturbed else ("", None)
        within = disturbed and self._random.random() < WITHIN
        after_s = self._random.uniform(0, LASTS_S[phase]) if within else None
        source = bed.where()
        self.counts["moves"] += 1
        when = f"{after_s:.3f} s into {phase}" if within else phase
        what = f"{when}: {fault.name}" if fault else f"a relay's habits are {', '.join(habits)}" if habits else "undisturbed"
        what += ", the agents talk in disorder" * between
        print(f"{time.strftime('%T')} {self.counts['moves']:4} from {source}, {what}", end="", flush=True)
        with bed.writing() as load:
            watch = outside.Watch(bed.lab, "redis-server")
            try:
                with watch:
                    end = self._end_of(bed, phase, fault, When(after_s), not habits and not between)
            finally:
                self.counts["double_lives"] += len(watch.doubles)
            if not end.at:
                load.abandon()
        print(f" -> {end.at or 'gone with its node'}", "" if end.has_struck else " (the fault came too late)", sep="", flush=True)
        self.counts["faults"] += disturbed and end.has_struck or between or bool(habits)
        self.counts["faults_too_late"] += not end.has_struck
        self.counts["arrived"] += end.at == bed.other(source)
        self.counts["none_alive"] += GONE in end.problems
        self.counts["left_overs"] += len([problem for problem in end.problems if problem != GONE])
        problems = [*end.problems, *watch.problems()]
        if problems:
            problems.append(end.said)
        if end.at:
            self.counts["lost_writes"] += load.verdict["lost"]
            if load.verdict["lost"]:
                problems.append(f"lost writes: {load.verdict}")
        elif not end.problems:
            self.counts["gone_with_node"] += 1
            bed.run_redis()
        return problems

    @staticmethod
    def _end_of(bed: Bed, phase: str, fault: Fault | None, when: When, is_calm: bool) -> End:
        if fault:
            return run_cell(bed, phase, fault, when, is_calm)
        code, said = bed.try_migrate(REDIS, bed.other(bed.where()), *PATIENT)
        end = await_end(bed, may_be_gone=False)
        end.said = f"{code}: {said}"
        if code and is_calm:
            end.problems.append("it failed without a fault")
        return end

    def _trouble(self, bed: Bed, problems: list[str]) -> None:
        self.troubles += 1
        print("\n*** " + "\n    ".join(problems), flush=True)
        if not self._logs:
            bed.print_logs()
            return
        folder = self._logs / f"seed-{self._seed}-move-{self.counts['moves']}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "problems").write_text("\n".join(problems) + "\n")
        for host in bed.lab.with_daemon:
            shutil.copy(daemons.log_of(bed.lab, host), folder / f"{host.name}.log")
        print(f"    logs: {folder}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/run soak", usage=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--logs", type=Path)
    options = parser.parse_args()
    for end in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(end, lambda number, _: sys.exit(128 + number))  # the lab goes down on this way out too
    print(f"seed {options.seed}, {options.minutes:g} minutes", flush=True)
    soak = Soak(options.seed, options.logs)
    soak.run(time.monotonic() + 60 * options.minutes)
    counts = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in soak.counts.items())
    print(f"seed {options.seed}: {counts}; {soak.troubles} in trouble", flush=True)
    if not (soak.counts["arrived"] and soak.counts["faults"]):
        print("nothing was shown: no move has arrived, or none was disturbed", flush=True)
        return 1
    return 1 if soak.troubles else 0


if __name__ == "__main__":
    sys.exit(main())
