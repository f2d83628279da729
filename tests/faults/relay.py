#!/usr/bin/python3
"""Stands between an agent and the coordinator, with the certificates of both, and does to the coordinator's commands, and to
what the agent says, what a bad network, or a coordinator with an old journal, could do. Runs on the coordinator's host.

  relay.py LISTEN COORDINATOR COORDINATOR-CERTS NODE-CERTS SEED HABIT...

  late      each command waits for up to 50 ms, so that they overtake each other
  twice     each command comes twice, the second time up to half a second later
  old       commands of all times, of finished migrations too, come again and again; their commits and kills with every command
  answers-late, answers-twice, answers-old
            the same of all that the agent says: answers, what it reports of itself, and what it asks. `old` are those of former
            connections too, and the answer that a request of the same number had in one of these comes before its own
  mute      every fourth answer in and after the pause is lost
  keep      from a SIGUSR1 on commits are kept back, until a SIGUSR2 hands them over, and every commit and kill there ever was
            once more
  say:N     at a SIGUSR1 the agent is given the command N of control.proto, with nothing in it but the id of the last migration
            that it was given a command of

What is kept back, and what the agent answers to that or to a command of our own, is said: `kept N`, `N answered: ok` or a code.
Ended with a SIGTERM it says how often it has done what: `HABIT: N`, and of what is old `HABIT former: N`, that of former connections.
"""

import asyncio
import random
import signal
import ssl
import struct
import sys
from collections import Counter

HEAD = struct.Struct("<I")
# The commands of a migration (docs/commit-protocol.md; the numbers are those of control.proto). What starts and kills
# workloads is not among them: whoever repeats that means it.
MIGRATION_COMMANDS = range(30, 70)
DISORDER = ("late", "twice", "old")
ANSWERS_IN_DISORDER = tuple(f"answers-{habit}" for habit in DISORDER)
FORMER = "former"
LATE_S = 0.05
AGAIN_S = 0.5
OLD_EVERY_S = 0.05
KEPT = 500  # old commands
KILL_SOURCE, COMMIT, DISCARD = 40, 54, 56
IN_THE_PAUSE = {36, 38, 41, 53, 55, 57}  # Frozen, Armed, SourceState, Finished, Resumed, DestinationState
ONE_IN = 4
ID, REPLY, FAILURE = 1, 2, 3  # of an envelope
VARINT, BYTES = 0, 2  # wire types
OWN = 1 << 63  # the id of our first own envelope: nobody counts so far (control.proto)


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


def send(writer: asyncio.StreamWriter, envelope: bytes) -> bool:
    """Whether there is still somebody to send it to."""
    if writer.is_closing():
        return False
    writer.write(HEAD.pack(len(envelope)) + envelope)
    return True


async def until_one_ends(*parts) -> None:
    """Of a connection: the others end with it."""
    tasks = [asyncio.create_task(part) for part in parts]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Relay:
    def __init__(self, coordinator: str, coordinator_certs: str, node_certs: str, seed: int, habits: set[str]):
        self._host, _, self._port = coordinator.rpartition(":")
        self.server_side = context(ssl.Purpose.CLIENT_AUTH, coordinator_certs)
        self._client_side = context(ssl.Purpose.SERVER_AUTH, node_certs)
        self._random = random.Random(seed)
        self._habits = habits
        self.done: Counter[str] = Counter(dict.fromkeys(habits, 0))
        self._connections = 0
        self._old: list[tuple[int, bytes]] = []  # commands, and the connections that they came by
        self._old_answers: list[tuple[int, bytes]] = []  # and all else that agents have said
        self._answer_to: dict[int, bytes] = {}  # what was answered to a request of this number
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
            send(to_agent, field(ID, number) + field(command, body))

    async def serve(self, from_agent: asyncio.StreamReader, to_agent: asyncio.StreamWriter) -> None:
        try:
            from_coordinator, to_coordinator = await asyncio.open_connection(self._host, int(self._port), ssl=self._client_side)
        except OSError:
            to_agent.close()
            return
        self._agents.add(to_agent)
        self._connections += 1
        here = self._connections
        await until_one_ends(self._commands(here, from_coordinator, to_agent, to_coordinator),
                             self._answers(here, from_agent, to_coordinator),
                             *self._repetitions(here, to_agent, to_coordinator))
        self._agents.discard(to_agent)
        for writer in (to_agent, to_coordinator):
            writer.close()

    async def _commands(self, here: int, source: asyncio.StreamReader, to_agent: asyncio.StreamWriter,
                        to_coordinator: asyncio.StreamWriter) -> None:
        async for envelope in envelopes(source):
            if "answers-old" in self._habits and (old := self._answer_to.get(id_of(envelope))):
                self._send_as("answers-old", to_coordinator, old)
            if not has_body(envelope, MIGRATION_COMMANDS):
                send(to_agent, envelope)
                continue
            self._last_migration = migration_of(envelope) or self._last_migration
            commit = has_body(envelope, {COMMIT})
            if "keep" in self._habits and (commit or has_body(envelope, {KILL_SOURCE})):
                self._kept.append(envelope)
                if commit and self._keeps_commits:
                    print(f"kept {COMMIT}", flush=True)
                    continue
            self._pass_on(envelope, to_agent)
            if "old" in self._habits:
                for _, old in self._old:
                    if has_body(old, {COMMIT, KILL_SOURCE}):
                        self._send_as("old", to_agent, old)
            self._remember(here, envelope, self._old)

    async def _answers(self, here: int, source: asyncio.StreamReader, to_coordinator: asyncio.StreamWriter) -> None:
        async for envelope in envelopes(source):
            if command := self._own.get(id_of(envelope)) if has_body(envelope, {REPLY}) else None:
                print(f"{command} answered: {answer_in(envelope)}", flush=True)
                continue
            if "mute" in self._habits and has_body(envelope, IN_THE_PAUSE) and not self._random.randrange(ONE_IN):
                self.done["mute"] += 1
                continue
            if has_body(envelope, {REPLY}):
                self._answer_to[id_of(envelope)] = envelope
            self._remember(here, envelope, self._old_answers)
            self._pass_on(envelope, to_coordinator, "answers-")

    @staticmethod
    def _remember(here: int, envelope: bytes, old: list[tuple[int, bytes]]) -> None:
        old.append((here, envelope))
        del old[:-KEPT]

    def _send_as(self, habit: str, to: asyncio.StreamWriter, envelope: bytes) -> bool:
        sent = send(to, envelope)
        self.done[habit] += sent
        return sent

    def _pass_on(self, envelope: bytes, to: asyncio.StreamWriter, whose: str = "") -> None:
        loop = asyncio.get_running_loop()
        late = self._random.uniform(0, LATE_S) if whose + "late" in self._habits else 0
        if late:
            loop.call_later(late, self._send_as, whose + "late", to, envelope)
        else:
            send(to, envelope)
        if whose + "twice" in self._habits:
            loop.call_later(late + self._random.uniform(0, AGAIN_S), self._send_as, whose + "twice", to, envelope)

    def _repetitions(self, here: int, to_agent: asyncio.StreamWriter, to_coordinator: asyncio.StreamWriter):
        if "old" in self._habits:
            yield self._repeat(here, "old", self._old, to_agent)
        if "answers-old" in self._habits:
            yield self._repeat(here, "answers-old", self._old_answers, to_coordinator)

    async def _repeat(self, here: int, habit: str, said: list[tuple[int, bytes]], to: asyncio.StreamWriter) -> None:
        while True:
            await asyncio.sleep(OLD_EVERY_S)
            if not said:
                continue
            connection, old = self._random.choice(said)
            # With its old number: nobody waits for that answer any more.
            if self._send_as(habit, to, old) and connection != here:
                self.done[f"{habit} {FORMER}"] += 1


async def main(listen: str, coordinator: str, coordinator_certs: str, node_certs: str, seed: str, *habits: str) -> None:
    relay = Relay(coordinator, coordinator_certs, node_certs, int(seed), set(habits))
    host, _, port = listen.rpartition(":")
    server = await asyncio.start_server(relay.serve, host, int(port), ssl=relay.server_side)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, relay.keep_or_say)
    loop.add_signal_handler(signal.SIGUSR2, relay.hand_over)
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    async with server:
        await ended.wait()
        print("\n".join(f"{habit}: {count}" for habit, count in relay.done.items()), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
