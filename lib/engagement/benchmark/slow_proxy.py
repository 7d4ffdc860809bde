"""A destination that answers, but late: a TCP proxy that holds every answer back for some seconds."""

import asyncio
import threading
from concurrent.futures import Future
from contextlib import suppress

_CHUNK_BYTES = 65_536
_STOP_SECONDS = 10.0


class SlowProxy:
    """Forwards connections to `target` (host:port); what comes back is late. Use as a context manager."""

    def __init__(self, target: str, delay_seconds: float, *, greeting: bool) -> None:
        """`greeting`: the first answer of a connection is no answer to a call (HTTP/2's settings), and is in time."""
        host, port = target.rsplit(":", 1)
        self._target = (host, int(port))
        self._delay = delay_seconds
        self._greeting = greeting
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"slow {target}", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self.address = ""
        """host:port to connect to, while the context lasts."""

    def __enter__(self) -> "SlowProxy":
        self._thread.start()
        opened: Future[asyncio.Server] = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop
        )
        self._server = opened.result(_STOP_SECONDS)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = f"{host}:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(_STOP_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STOP_SECONDS)
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 for the type checker: a coroutine always runs in a task
        self._tasks.add(task)
        try:
            server_in, server_out = await asyncio.open_connection(*self._target)
            await asyncio.gather(_forward(client_in, server_out), self._answer(server_in, client_out))
        except (OSError, asyncio.CancelledError):
            # Cancelled only by `_close`; passed on, asyncio would log it as an error of each connection.
            client_out.close()
        finally:
            self._tasks.discard(task)

    async def _answer(self, server: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        """Everything that comes within one delay goes on its way in the order in which it came."""
        due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sender = asyncio.create_task(self._send(due, client))
        in_time = self._greeting
        try:
            with suppress(OSError):
                while data := await server.read(_CHUNK_BYTES):
                    due.put_nowait((self._loop.time() + (0.0 if in_time else self._delay), data))
                    in_time = False
            due.put_nowait((self._loop.time(), b""))
            await sender
        finally:
            sender.cancel()  # of no effect unless this was cancelled before its end

    async def _send(self, due: asyncio.Queue[tuple[float, bytes]], client: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while True:
                at, data = await due.get()
                if not data:
                    break
                await asyncio.sleep(max(0.0, at - self._loop.time()))
                client.write(data)
                await client.drain()
        client.close()


async def _forward(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(_CHUNK_BYTES):
            target.write(data)
            await target.drain()
    target.close()
