#!/usr/bin/python3
"""Stands between an agent and the coordinator, with the certificates of both, and does to the coordinator's commands what a
bad network, or a coordinator with an old journal, could do. Runs on the coordinator's host.

  relay.py LISTEN COORDINATOR COORDINATOR-CERTS NODE-CERTS SEED HABIT...

  late      each command waits for up to 50 ms, so that they overtake each other
  twice     each command comes twice, the second time up to half a second later
  old       commands of all times, of finished migrations too, come again and again
  mute      every fourth answer in and after the pause is lost
  keep      from a SIGUSR1 on commits are kept back, until a SIGUSR2 hands them over, and every kill there ever was once more
"""

import asyncio
import random
import signal
import ssl
import struct
import sys

HEAD = struct.Struct("<I")
# The commands of a migration (docs/commit-protocol.md; the numbers are those of control.proto). What starts and kills
# workloads is not among them: whoever repeats that means it.
MIGRATION_COMMANDS = range(30, 70)
LATE_S = 0.05
AGAIN_S = 0.5
OLD_EVERY_S = 0.05
KEPT = 500  # old commands
KILL_SOURCE, COMMIT = 40, 54
IN_THE_PAUSE = {36, 38, 41, 53, 55, 57}  # Frozen, Armed, SourceState, Finished, Resumed, DestinationState
ONE_IN = 4


def fields(message: bytes):
    """(number, wire type, value) of each field."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while at < len(message):
        key = varint()
        match key & 7:
            case 0:
                yield key >> 3, 0, varint()
            case 2:
                size = varint()
                yield key >> 3, 2, message[at:at + size]
                at += size
            case other:
                raise ValueError(f"an envelope has no wire type {other}")


def has_body(envelope: bytes, kinds) -> bool:
    return any(number in kinds for number, _, _ in fields(envelope))


def context(purpose: ssl.Purpose, certs: str) -> ssl.SSLContext:
    made = ssl.create_default_context(purpose, cafile=f"{certs}/ca.crt")
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.load_cert_chain(f"{certs}/node.crt", f"{certs}/node.key")
    return made


async def envelopes(reader: asyncio.StreamReader):
    try:
        while True:
            (size,) = HEAD.unpack(await reader.readexactly(HEAD.size))
            yield await reader.readexactly(size)
    except (asyncio.IncompleteReadError, OSError):
        return


class Relay:
    def __init__(self, coordinator: str, coordinator_certs: str, node_certs: str, seed: int, habits: set[str]):
        self._host, _, self._port = coordinator.rpartition(":")
        self.server_side = context(ssl.Purpose.CLIENT_AUTH, coordinator_certs)
        self._client_side = context(ssl.Purpose.SERVER_AUTH, node_certs)
        self._random = random.Random(seed)
        self._habits = habits
        self._old: list[bytes] = []
        self._keeps_commits = False
        self._kept: list[bytes] = []
        self._agents: set[asyncio.StreamWriter] = set()

    def keep_commits(self) -> None:
        self._keeps_commits = True

    def hand_over(self) -> None:
        self._keeps_commits = False
        for to_agent in self._agents:
            for envelope in self._kept:
                self._send(to_agent, envelope)

    async def serve(self, from_agent: asyncio.StreamReader, to_agent: asyncio.StreamWriter) -> None:
        try:
            from_coordinator, to_coordinator = await asyncio.open_connection(self._host, int(self._port), ssl=self._client_side)
        except OSError:
            to_agent.close()
            return
        self._agents.add(to_agent)
        tasks = [asyncio.create_task(self._commands(from_coordinator, to_agent)),
                 asyncio.create_task(self._answers(from_agent, to_coordinator)),
                 *([asyncio.create_task(self._repeat_old(to_agent))] if "old" in self._habits else [])]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._agents.discard(to_agent)
        for writer in (to_agent, to_coordinator):
            writer.close()

    @staticmethod
    def _send(writer: asyncio.StreamWriter, envelope: bytes) -> None:
        if not writer.is_closing():
            writer.write(HEAD.pack(len(envelope)) + envelope)

    async def _commands(self, source: asyncio.StreamReader, to_agent: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        async for envelope in envelopes(source):
            if not has_body(envelope, MIGRATION_COMMANDS):
                self._send(to_agent, envelope)
                continue
            commit = has_body(envelope, {COMMIT})
            if "keep" in self._habits and (commit or has_body(envelope, {KILL_SOURCE})):
                self._kept.append(envelope)
                if commit and self._keeps_commits:
                    continue
            self._old = [*self._old[-KEPT:], envelope]
            late = self._random.uniform(0, LATE_S) if "late" in self._habits else 0
            loop.call_later(late, self._send, to_agent, envelope)
            if "twice" in self._habits:
                loop.call_later(late + self._random.uniform(0, AGAIN_S), self._send, to_agent, envelope)

    async def _answers(self, source: asyncio.StreamReader, to_coordinator: asyncio.StreamWriter) -> None:
        async for envelope in envelopes(source):
            if "mute" in self._habits and has_body(envelope, IN_THE_PAUSE) and not self._random.randrange(ONE_IN):
                continue
            self._send(to_coordinator, envelope)

    async def _repeat_old(self, to_agent: asyncio.StreamWriter) -> None:
        while True:
            await asyncio.sleep(OLD_EVERY_S)
            if self._old:
                # With its old number: nobody waits for that answer any more.
                self._send(to_agent, self._random.choice(self._old))


async def main(listen: str, coordinator: str, coordinator_certs: str, node_certs: str, seed: str, *habits: str) -> None:
    relay = Relay(coordinator, coordinator_certs, node_certs, int(seed), set(habits))
    host, _, port = listen.rpartition(":")
    server = await asyncio.start_server(relay.serve, host, int(port), ssl=relay.server_side)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, relay.keep_commits)
    loop.add_signal_handler(signal.SIGUSR2, relay.hand_over)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
