"""Sends changes to a Buildbot master; run by the interpreter of Buildbot's environment.

Its first line says that it is connected. Each line of standard input is an object: ``changes``, and ``at_once``, how
many of them are sent before an answer is awaited. One connection serves all. Changes without an answer are sent again
over a new connection. The answer is a line: the number of changes that got an answer before the first connection broke.
"""

from __future__ import annotations

import json
import sys

from twisted.cred import credentials
from twisted.internet import defer, reactor, task, threads
from twisted.spread import pb

_PAUSE = 0.1


class Sender:
    """A connection to the master, made again when it breaks."""

    def __init__(self, port):
        self._port = port
        self._perspective = None

    async def send(self, changes, at_once):
        waiting, answered, before_the_break = list(changes), 0, None
        while waiting:
            batch = waiting[:at_once]
            try:
                answers = await self._send_once(batch)
            except Exception:  # noqa: BLE001 - the master is down
                answers = [(False, None)] * len(batch)
            answered += sum(fine for fine, _ in answers)
            failed = [change for change, (fine, _) in zip(batch, answers, strict=True) if not fine]
            waiting = failed + waiting[at_once:]
            if failed:
                before_the_break = answered if before_the_break is None else before_the_break
                self._perspective = None
                await task.deferLater(reactor, _PAUSE)
        return answered if before_the_break is None else before_the_break

    async def connect(self):
        factory = pb.PBClientFactory()
        reactor.connectTCP("127.0.0.1", self._port, factory)
        self._perspective = await factory.login(credentials.UsernamePassword(b"change", b"changepw"))

    async def _send_once(self, changes):
        if self._perspective is None:
            await self.connect()
        calls = [self._perspective.callRemote("addChange", change) for change in changes]
        return await defer.DeferredList(calls, consumeErrors=True)


async def main():
    sender = Sender(int(sys.argv[1]))
    await sender.connect()
    print("connected", flush=True)
    while line := await threads.deferToThread(sys.stdin.readline):
        print(await sender.send(**json.loads(line)), flush=True)


if __name__ == "__main__":
    task.react(lambda _: defer.ensureDeferred(main()))
