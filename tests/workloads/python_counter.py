#!/usr/bin/env python3
"""Checks: a python3 interpreter with threads, a changing dictionary and an open file."""

import hashlib
import os
import sys
import threading
import time

directory = sys.argv[1]
pid = os.getpid()


def put(name, text):
    draft = os.path.join(directory, "." + name)
    with open(draft, "w") as file:
        file.write(text)
    os.rename(draft, os.path.join(directory, name))


def value_of(key, generation):
    return hashlib.sha256(f"{key}/{generation}".encode()).hexdigest()


class Worker(threading.Thread):
    """Rewrites a dictionary of its own; a value is computable from its key and generation."""

    def __init__(self, number):
        super().__init__(name=f"worker-{number}", daemon=True)
        self.generations = [0] * 20000
        self.values = {key: value_of(key, 0) for key in range(len(self.generations))}
        self.stop = threading.Event()
        self.turns = number

    def run(self):
        while not self.stop.is_set():
            key = self.turns * 7919 % len(self.generations)
            self.generations[key] += 1
            self.values[key] = value_of(key, self.generations[key])
            self.turns += 1
            if self.turns % 100 == 0:
                time.sleep(0.001)

    def failures(self):
        return [key for key, generation in enumerate(self.generations) if self.values[key] != value_of(key, generation)]


def verify(workers, notes, lines):
    before = [worker.turns for worker in workers]
    time.sleep(0.2)
    for worker, turns in zip(workers, before):
        if worker.turns == turns:
            return f"{worker.name} does not run any more"
        worker.stop.set()
        worker.join(10)
        if worker.is_alive():
            return f"{worker.name} does not end"
        wrong = worker.failures()
        if wrong:
            return f"{worker.name} has {len(wrong)} wrong values, the first at {wrong[0]}"
    if os.getpid() != pid:
        return f"the PID was {pid} and is {os.getpid()}"
    notes.seek(0)
    if notes.read() != "".join(f"line {n}\n" for n in range(lines)):
        return "the open file has other content"
    return None


def main():
    workers = [Worker(number) for number in range(3)]
    for worker in workers:
        worker.start()
    lines = 0
    with open(os.path.join(directory, "notes"), "w+") as notes:
        put("ready", f"{pid}\n")
        while not os.path.exists(os.path.join(directory, "verify")):
            notes.write(f"line {lines}\n")
            lines += 1
            if lines > 60000:
                sys.exit("nobody asked for the verification")
            time.sleep(0.01)
        failure = verify(workers, notes, lines)
    put("result", f"fail: {failure}\n" if failure else "pass\n")
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main())
