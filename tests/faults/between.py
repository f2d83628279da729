#!/usr/bin/python3
"""Stands between two agents, with the certificates of both, and does to what they say to each other about the end of a
migration what a bad network could do. Runs on the source's host, where the way to the other agent leads to it (wire.divert).
Ended with a SIGTERM it prints how many of their words it has repeated.

  between.py AGENT SERVER-CERTS CLIENT-CERTS SEED HABIT...

The habits are those of relay.py: late, twice, old. With the last one a question has the answer first that was given to one of its
number in a former connection, if there was any. Pages and hellos pass untouched: they have an order.
"""

import asyncio
import random
import signal
import socket
import ssl
import sys

sys.dont_write_bytecode = True
from relay import (AGAIN_S, KEPT, LATE_S, OLD_EVERY_S, REPLY, context, envelopes, has_body, id_of, send,  # noqa: E402
                   until_one_ends)

# SourceState, DestinationState, Query, Refuse, QuerySource, Settled: the numbers are those of control.proto.
WORDS = {41, 57, 72, 73, 75, 76}
QUESTIONS = {72, 73, 75, 76}
NOT_DIVERTED = 1  # the mark of packets that shall reach the other agent
IP_TRANSPARENT = 19  # an address that is not this host's
# An envelope's number again, behind all else, where it is the one that counts: nobody waits for the answer to this one.
ANOTHER_NUMBER = b"\x08" + b"\xff" * 9 + b"\x01"


class Between:
    def __init__(self, agent: str, server_certs: str, client_certs: str, seed: int, habits: set[str]):
        host, _, port = agent.rpartition(":")
        self._address = (host, int(port))
        self._server_side = context(ssl.Purpose.CLIENT_AUTH, server_certs)
        self._client_side = context(ssl.Purpose.SERVER_AUTH, client_certs)
        self._random = random.Random(seed)
        self._habits = habits
        self._old: list[bytes] = []  # questions of this source, of all migrations
        self._answers: dict[tuple[str, int], bytes] = {}  # by who gave them, and their numbers
        self.repeated = 0

    async def listen(self) -> asyncio.Server:
        listener = socket.socket()
        listener.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(self._address)
        return await asyncio.start_server(self._serve, sock=listener, ssl=self._server_side)

    async def _serve(self, from_source: asyncio.StreamReader, to_source: asyncio.StreamWriter) -> None:
        onward = socket.socket()
        onward.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, NOT_DIVERTED)
        onward.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(onward, self._address)
            from_agent, to_agent = await asyncio.open_connection(sock=onward, ssl=self._client_side, server_hostname="")
        except OSError:
            onward.close()
            to_source.close()
            return
        await until_one_ends(self._pass_on("source", from_source, to_agent, to_source),
                             self._pass_on("agent", from_agent, to_source, to_agent),
                             *([self._repeat_old(to_agent)] if "old" in self._habits else []))
        for writer in (to_source, to_agent):
            writer.close()

    def _repeat(self, writer: asyncio.StreamWriter, envelope: bytes) -> None:
        self.repeated += not writer.is_closing()
        send(writer, envelope)

    async def _pass_on(self, who: str, source: asyncio.StreamReader, to: asyncio.StreamWriter,
                       back: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        async for envelope in envelopes(source):
            if not has_body(envelope, WORDS):
                send(to, envelope)
                await to.drain()
                continue
            if has_body(envelope, {REPLY}):
                self._answers[who, id_of(envelope)] = envelope
            elif "old" in self._habits and has_body(envelope, QUESTIONS):
                other = "agent" if who == "source" else "source"
                if old := self._answers.get((other, id_of(envelope))):
                    self._repeat(back, old)
                if who == "source":
                    self._old = [*self._old[-KEPT:], envelope]
            late = self._random.uniform(0, LATE_S) if "late" in self._habits else 0
            loop.call_later(late, send, to, envelope)
            if "twice" in self._habits:
                loop.call_later(late + self._random.uniform(0, AGAIN_S), self._repeat, to, envelope)

    async def _repeat_old(self, to_agent: asyncio.StreamWriter) -> None:
        while True:
            await asyncio.sleep(OLD_EVERY_S)
            if self._old:
                self._repeat(to_agent, self._random.choice(self._old) + ANOTHER_NUMBER)


async def main(agent: str, server_certs: str, client_certs: str, seed: str, *habits: str) -> None:
    between = Between(agent, server_certs, client_certs, int(seed), set(habits))
    server = await between.listen()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    print("listening", flush=True)
    async with server:
        await ended.wait()
        print(between.repeated, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
