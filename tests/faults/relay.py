#!/usr/bin/python3
"""Stands between an agent and the coordinator, with the certificates of both, and does to the coordinator's commands what a
bad network, or a coordinator with an old journal, could do. Runs on the coordinator's host.

  relay.py LISTEN COORDINATOR COORDINATOR-CERTS NODE-CERTS SEED HABIT...

  late      each command waits for up to 50 ms, so that they overtake each other
  twice     each command comes twice, the second time up to half a second later
  old       commands of all times, of finished migrations too, come again and again
  mute      every fourth answer in and after the pause is lost
  keep      from a SIGUSR1 on commits are kept back, until a SIGUSR2 hands them over, and every commit and kill there ever was
            once more
  say:N     at a SIGUSR1 the agent is given the command N of control.proto, with nothing in it but the id of the last migration
            that it was given a command of

What is kept back, and what the agent answers to that or to a command of our own, is said: `kept N`, `N answered: ok` or a code.
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
ID, REPLY, FAILURE = 1, 2, 3  # of an envelope
VARINT, BYTES = 0, 2  # wire types
OWN = 1 << 40  # the id of our first own envelope: no coordinator counts so far


def fields(message: bytes):
    """(number, wire type, value) of each field."""
    at = 0

    def next_varint() -> int:
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
        key = next_varint()
        match key & 7:
            case 0:
                yield key >> 3, VARINT, next_varint()
            case 2:
                size = next_varint()
                yield key >> 3, BYTES, message[at:at + size]
                at += size
            case other:
                raise ValueError(f"an envelope has no wire type {other}")


def varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3 | VARINT) + varint(value)
    return varint(number << 3 | BYTES) + varint(len(value)) + value


def body_of(envelope: bytes) -> int:
    return next((number for number, kind, _ in fields(envelope) if kind == BYTES and number >= 10), 0)


def id_of(envelope: bytes) -> int:
    return next((value for number, _, value in fields(envelope) if number == ID), 0)


def migration_of(envelope: bytes) -> bytes:
    """Every command of a migration begins with its id."""
    body = next(value for number, kind, value in fields(envelope) if kind == BYTES and number in MIGRATION_COMMANDS)
    return next((value for number, kind, value in fields(body) if (number, kind) == (1, BYTES)), b"")


def has_body(envelope: bytes, kinds) -> bool:
    return any(number in kinds for number, _, _ in fields(envelope))


def answer_in(envelope: bytes) -> str:
    """`ok`, or the code of the failure."""
    failure = next((value for number, _, value in fields(envelope) if number == FAILURE), None)
    return "ok" if failure is None else next(value for number, _, value in fields(failure) if number == 1).decode()


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
        self._says = [int(habit.partition(":")[2]) for habit in habits if habit.startswith("say:")]
        self._keeps_commits = False
        self._kept: list[bytes] = []
        self._last_migration = b""
        self._own: dict[int, int] = {}  # the ids of our own envelopes, and their commands
        self._agents: set[asyncio.StreamWriter] = set()

    def keep_or_say(self) -> None:
        self._keeps_commits = "keep" in self._habits
        for command in self._says:
            self._send_own(command, field(1, self._last_migration))

    def hand_over(self) -> None:
        self._keeps_commits = False
        for envelope in self._kept:
            body = next(value for number, kind, value in fields(envelope) if kind == BYTES and number >= 10)
            self._send_own(body_of(envelope), body)

    def _send_own(self, command: int, body: bytes) -> None:
        """Under a number of ours, so that the answer is known, and nobody else takes it for his."""
        number = OWN + len(self._own)
        self._own[number] = command
        for to_agent in self._agents:
            self._send(to_agent, field(ID, number) + field(command, body))

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
            self._last_migration = migration_of(envelope) or self._last_migration
            commit = has_body(envelope, {COMMIT})
            if "keep" in self._habits and (commit or has_body(envelope, {KILL_SOURCE})):
                self._kept.append(envelope)
                if commit and self._keeps_commits:
                    print(f"kept {COMMIT}", flush=True)
                    continue
            self._old = [*self._old[-KEPT:], envelope]
            late = self._random.uniform(0, LATE_S) if "late" in self._habits else 0
            loop.call_later(late, self._send, to_agent, envelope)
            if "twice" in self._habits:
                loop.call_later(late + self._random.uniform(0, AGAIN_S), self._send, to_agent, envelope)

    async def _answers(self, source: asyncio.StreamReader, to_coordinator: asyncio.StreamWriter) -> None:
        async for envelope in envelopes(source):
            if command := self._own.get(id_of(envelope)) if has_body(envelope, {REPLY}) else None:
                print(f"{command} answered: {answer_in(envelope)}", flush=True)
                continue
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
    loop.add_signal_handler(signal.SIGUSR1, relay.keep_or_say)
    loop.add_signal_handler(signal.SIGUSR2, relay.hand_over)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
