"""The lab's network: a switch, which is a bridge in a network namespace of its own, and a veth from it to each host.

Nothing of it is visible in the machine's own network, and all of it goes when the namespaces do.
"""

import subprocess

BRIDGE = "br0"
PORT = "eth0"  # of every host
NOBODY = "02:00:00:00:00:00"  # an Ethernet address that is not in the lab
NOT_DIVERTED, DIVERSION = "1", "100"  # a mark on packets, a routing table


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


def _in(pid: int, *command: str) -> None:
    _run("nsenter", "-t", str(pid), "-n", *command)


def make_switch(switch: int) -> None:
    _in(switch, "ip", "link", "set", "lo", "up")
    _in(switch, "ip", "link", "add", BRIDGE, "type", "bridge", "forward_delay", "0")
    _in(switch, "ip", "link", "set", BRIDGE, "up")


def plug_in(switch: int, pid: int, host: str, address: str, prefix: int) -> None:
    # The same network card after a reboot: others remember its Ethernet address.
    card = "02:00:" + ":".join(f"{int(part):02x}" for part in address.split("."))
    _run("ip", "link", "add", PORT, "address", card, "netns", str(pid), "type", "veth", "peer", "name", host, "netns",
         str(switch))
    _in(switch, "ip", "link", "set", host, "master", BRIDGE, "up")
    _in(pid, "ip", "address", "add", f"{address}/{prefix}", "dev", PORT)
    _in(pid, "ip", "link", "set", "lo", "up")
    _in(pid, "ip", "link", "set", PORT, "up")


def unplug(switch: int, host: str) -> None:
    """Takes the cable away, both ends of it at once."""
    _in(switch, "ip", "link", "delete", host)


def limit(switch: int, pid: int, host: str, mbit: int) -> None:
    """Both directions; 0 lifts the limit."""
    for where, port in ((pid, PORT), (switch, host)):
        if mbit == 0:
            subprocess.run(["nsenter", "-t", str(where), "-n", "tc", "qdisc", "del", "dev", port, "root"],
                           stderr=subprocess.DEVNULL)
            continue
        # The bucket must hold one offloaded packet (64 KiB), or it never passes.
        burst = max(128 * 1024, mbit * 1_000_000 // 8 // 250)
        _in(where, "tc", "qdisc", "replace", "dev", port, "root", "tbf", "rate", f"{mbit}mbit",
            "burst", str(burst), "latency", "50ms")


def connect(switch: int, host: str, connected: bool) -> None:
    _in(switch, "ip", "link", "set", host, "up" if connected else "down")


def lose(pid: int, address: str) -> None:
    """Of what this host sends to an address nothing arrives any more, nor is the host told. The other way stays open."""
    _in(pid, "ip", "neigh", "replace", address, "lladdr", NOBODY, "nud", "permanent", "dev", PORT)


def find_again(pid: int) -> None:
    """Ends all that."""
    _in(pid, "ip", "neigh", "flush", "nud", "permanent", "dev", PORT)


def divert(pid: int, own: str, address: str, port: int) -> None:
    """What this host sends to a port of another one comes to whoever listens for that here, unless it is marked."""
    # What comes from that port is looked up by the same rules, and seems to be from here.
    _in(pid, "sysctl", "-qw", f"net.ipv4.conf.{PORT}.accept_local=1")
    _in(pid, "ip", "route", "add", "local", address, "dev", "lo", "src", own, "table", DIVERSION)
    _in(pid, "ip", "rule", "add", "priority", "1", "fwmark", NOT_DIVERTED, "lookup", "main")
    _in(pid, "ip", "rule", "add", "priority", "2", "to", address, "ipproto", "tcp", "dport", str(port), "lookup", DIVERSION)


def divert_no_more(pid: int) -> None:
    for priority in ("1", "2"):
        _in(pid, "ip", "rule", "delete", "priority", priority)
    _in(pid, "ip", "route", "flush", "table", DIVERSION)
    _in(pid, "sysctl", "-qw", f"net.ipv4.conf.{PORT}.accept_local=0")
