"""What the demo found, as numbers (--json), as sentences that must be true, and as text."""

UNEXPLAINED = "unexplained"
LARGEST_UNEXPLAINED_SHARE = 0.10


def results(facts: dict) -> dict:
    moved, digests = facts["migration"], facts["digests"]
    identity = facts["identity"]
    steps = dict(moved["downtime_steps_ms"])
    missing = moved["downtime_ms"] - sum(steps.values())
    if abs(missing) > 0.001:
        steps[UNEXPLAINED] = steps.get(UNEXPLAINED, 0) + missing
    return {
        "lost_writes": facts["verdict"]["lost"],
        "acknowledged_writes": facts["client"]["acknowledged"],
        "digest_equal": len(set(digests.values())) == 1,
        "same_pid": all(seen == identity["before"] for seen in identity.values()),
        "source_gone": not facts["source_remains"] and not facts.get("return_remains"),
        "tmpfs_released": facts["spool"]["released"],
        "downtime_ms": moved["downtime_ms"],
        "predicted_downtime_ms": moved["predicted_downtime_ms"],
        "downtime_steps_ms": steps,
        "blackout_ms": facts["client"]["blackout_ms"],
        "total_s": moved["total_s"],
        "gb_per_s": moved["gb_per_s"],
        "bytes": moved["bytes"],
        "rounds": [{key: one[key] for key in ("pages", "bytes", "seconds", "dirty_bytes_after")}
                   for one in moved["rounds"]],
        "destination_peak_bytes": facts["destination_peak_bytes"],
    }


def proof(facts: dict, got: dict) -> list[tuple[bool, str]]:
    verdict, client, identity = facts["verdict"], facts["client"], facts["identity"]
    unexplained = abs(got["downtime_steps_ms"].get(UNEXPLAINED, 0)) / max(got["downtime_ms"], 0.001)
    cut = f"{client['unknown']} in flight at the cut, of which {len(verdict['carried_out'])} were carried out"
    sentences = [
        (got["lost_writes"] == 0 and client["acknowledged"] > 0 and client["refused"] == 0,
         f"{got['lost_writes']} of {client['acknowledged']:,} acknowledged writes lost: all {verdict['keys']:,} keys compared, "
         f"none retried, {cut}"),
        (facts["digests"]["moved"] == facts["digests"]["reference"],
         "DEBUG DIGEST equals that of a second redis which replayed the log"),
        (identity["after"] == identity["before"],
         f"same PID {identity['before'][0]} and the same {len(identity['before'])} threads in its namespace"),
        (not facts["source_remains"], "nothing is left of it at the source" + _listed(facts["source_remains"])),
        (got["tmpfs_released"], "the spool's memory is released"),
        (unexplained <= LARGEST_UNEXPLAINED_SHARE, f"{100 - 100 * unexplained:.0f} % of the downtime is accounted for"),
    ]
    if "return" in facts:
        equal = facts["digests"]["returned"] == facts["digests"]["reference"]
        same = identity["returned"] == identity["before"] and not facts["return_remains"]
        sentences.append((equal and same, f"moved back ({facts['return']['downtime_ms']:.1f} ms of downtime): digest equal, "
                          "same PID, nothing left" + _listed(facts["return_remains"])))
    return sentences + [(False, example) for example in verdict["examples"]]


def _listed(names: list[str]) -> str:
    return f" but {', '.join(names)}" if names else ""


def size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return ""


def _rounds(rounds: list[dict]) -> list[str]:
    lines = [f"  {'round':>5} {'pages':>10} {'bytes':>11} {'seconds':>9} {'GB/s':>6} {'dirty after':>12} {'dirty rate':>13}"]
    for number, one in enumerate(rounds):
        final = number == len(rounds) - 1 and one.get("final", True)
        seconds = max(one["seconds"], 1e-9)
        dirty = "" if final else f"{size(one['dirty_bytes_after']):>12} {size(one['dirty_bytes_after'] / seconds) + '/s':>13}"
        lines.append(f"  {'final' if final else number:>5} {one['pages']:>10,} {size(one['bytes']):>11} "
                     f"{one['seconds']:>9.3f} {one['bytes'] / seconds / 1e9:>6.2f} {dirty}".rstrip())
    return lines


def _downtime(facts: dict, got: dict) -> list[str]:
    predicted = got["predicted_downtime_ms"]
    expected = f" (predicted {predicted:.1f} ms)" if predicted is not None else ""
    lines = [f"  downtime {got['downtime_ms']:.1f} ms{expected}"]
    steps = got["downtime_steps_ms"]
    order = [name for name in facts["migration"].get("downtime_steps_order", steps) if name in steps]
    order += [name for name in steps if name not in order]
    for name in order:
        share = steps[name] / max(got["downtime_ms"], 0.001)
        lines.append(f"    {name.replace('_', ' '):<28} {steps[name]:>8.2f} ms  {100 * share:>4.0f} %  {'▇' * round(30 * share)}"
                     .rstrip())
    return lines


def text(facts: dict, got: dict, proven: list[tuple[bool, str]]) -> str:
    client, spool = facts["client"], facts["spool"]
    lines = [f"redis moved from h1 to h2 while a client wrote to it ({facts['rate']:,} SET/s on {facts['keys']:,} keys)", ""]
    lines += _rounds(facts["migration"]["rounds"]) + [""]
    lines += _downtime(facts, got) + [""]
    lines += [
        f"  blackout    {got['blackout_ms']:.1f} ms as the client saw it, its reconnection included "
        f"(next longest gap {client['second_longest_gap_ms']:.1f} ms)",
        f"  client      {client['acknowledged'] / max(client['seconds'], 0.001):,.0f} SET/s over {client['seconds']:.1f} s, "
        f"{client['reconnects']} reconnect(s)",
        f"  total       {got['total_s']:.2f} s, {size(got['bytes'])}, {got['gb_per_s']:.2f} GB/s",
        f"  memory      destination's peak {size(got['destination_peak_bytes'])}; Shmem {size(spool['before']['machine'])} "
        f"before, {size(spool['after']['machine'])} after",
        "", "  proof"]
    lines += [f"    {'ok  ' if holds else 'NOT '} {sentence}" for holds, sentence in proven]
    return "\n".join(lines)
