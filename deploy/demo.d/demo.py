"""The main job: a redis under load moves from h1 to h2 and back, and every write is accounted for."""

import argparse
import json
import signal
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1] / "lab.d")]

import report  # noqa: E402
from machine import ENDS, DemoLab, Spool, remains, threads_of  # noqa: E402
from redis import Client, Dataset, Reference, start_redis  # noqa: E402

from godwit_lab.cgroups import PeakMeter  # noqa: E402

NAME = "redis"
GIB = 1 << 30
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def parse_size(text: str) -> int:
    number, unit = (text[:-1], UNITS[text[-1].upper()]) if text[-1:].upper() in UNITS else (text, 1)
    return int(float(number) * unit)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="deploy/demo", description=__doc__)
    parser.add_argument("--size", type=parse_size, default=parse_size("1G"), help="of the values in redis (1G)")
    parser.add_argument("--value-size", type=int, default=1000, help="bytes in a value (1000)")
    parser.add_argument("--rate", type=int, default=5000, help="SETs a second (5000)")
    parser.add_argument("--streams", type=int, default=0, help="page streams of the migration")
    parser.add_argument("--link", type=int, default=0, metavar="MBIT", help="bandwidth of every host's link")
    parser.add_argument("--before", type=float, default=3, help="seconds of load before the move (3)")
    parser.add_argument("--after", type=float, default=2, help="seconds of load after the move (2)")
    parser.add_argument("--one-way", action="store_true", help="do not move it back")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--keep", action="store_true", help="leave the lab up: GODWIT_LAB=godwit-demo deploy/lab ...")
    return parser.parse_args()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(lab: DemoLab, options: argparse.Namespace) -> dict:
    data = Dataset(keys=max(1000, options.size // options.value_size), value_size=options.value_size)
    facts = {"keys": data.keys, "rate": options.rate}

    say("starting redis on h1")
    start_redis(lab, NAME, "h1")
    say(f"filling it with {options.size / GIB:.2f} GiB of random values")
    data.load(lab, "h1")
    identity = threads_of(lab, "h1")
    client = Client(lab, NAME, data, options.rate)
    time.sleep(options.before)

    say(f"moving it to h2 under {options.rate:,} SET/s")
    spool, peak = Spool(lab), PeakMeter(lab.name, "h2")
    facts["migration"] = lab.migrate(NAME, "h2", options.streams)
    facts["source_remains"] = remains(lab, "h1")
    facts["destination_peak_bytes"] = peak.bytes()
    facts["spool"] = spool.after()
    time.sleep(options.after)
    facts["client"] = client.stop()
    facts["identity"] = {"before": identity, "after": threads_of(lab, "h2")}

    say("comparing every key with the log")
    facts["verdict"] = data.verify(lab, "h2", client)
    say("replaying the log into a second redis")
    with Reference(lab) as reference:
        reference.replay(data, client, facts["verdict"])
        facts["digests"] = {"reference": reference.digest(), "moved": data.digest(lab, "h2")}

    if not options.one_way:
        say("moving it back to h1")
        facts["return"] = lab.migrate(NAME, "h1", options.streams)
        facts["return_remains"] = remains(lab, "h2")
        facts["identity"]["returned"] = threads_of(lab, "h1")
        facts["digests"]["returned"] = data.digest(lab, "h1")
    return facts


def main() -> int:
    options = parse_options()
    # Being told to end must take the same way out as an error does.
    for end in ENDS:
        signal.signal(end, lambda number, _: sys.exit(128 + number))
    started = time.monotonic()
    with DemoLab(keep=options.keep, link=options.link, needed_bytes=int(3.5 * options.size) + GIB) as lab:
        try:
            facts = run(lab, options)
        except (RuntimeError, OSError) as error:
            say(f"deploy/demo: {error}")
            lab.print_logs()
            return 1
    say(f"done in {time.monotonic() - started:.0f} s\n")
    results = report.results(facts)
    proof = report.proof(facts, results)
    print(report.text(facts, results, proof))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0 if all(holds for holds, _ in proof) else 1


if __name__ == "__main__":
    sys.exit(main())
