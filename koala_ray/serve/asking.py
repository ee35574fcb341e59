"""Asking replicas on a client's behalf: several at once, whole or as streams, and what goes wrong in OpenAI's terms."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError, RayServeException

from koala_ray.errors import KoalaError
from koala_ray.generate.replica import Ask
from koala_ray.serve.replies import Refused, refused


async def all_of(asked: Any) -> list[Any]:
    """All of some answers; where one is refused, the others are given up."""
    tasks = [asyncio.ensure_future(one) for one in asked]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


async def answered(method: Any, ask: Ask) -> Any:
    """What a replica says.

    Raises:
        Refused: it can't, or there is none that could.
    """
    response = method.remote(ask)
    try:
        found = await response
    except asyncio.CancelledError:
        response.cancel()
        raise
    except Exception as error:
        raise _failure(error) from error
    if isinstance(found, KoalaError):
        raise refused(found)
    return found


def _failure(error: Exception) -> Refused:
    """A replica that is lost, or has no place."""
    if isinstance(error, BackPressureError):
        return Refused(429, "all replicas are busy; ask again a little later", "rate_limit_error", "busy")
    if isinstance(error, RayError | RayServeException):
        return Refused(503, "the replica that had this was lost; ask again", "server_error", "replica_lost")
    return Refused(500, f"{type(error).__name__}: {error}", "server_error")


async def merged(streams: list[Any]) -> AsyncGenerator[tuple[int, Any]]:
    """What several streams say, as it comes, with which of them; closing it ends them all.

    Raises:
        Refused: one of them failed.
    """
    queue: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()
    ended = object()

    async def read(index: int, stream: Any) -> None:
        try:
            async for said in stream:
                await queue.put((index, refused(said) if isinstance(said, KoalaError) else said))
        except Exception as error:
            await queue.put((index, _failure(error)))
        await queue.put((index, ended))

    tasks = [asyncio.create_task(read(index, stream)) for index, stream in enumerate(streams)]
    left = len(tasks)
    try:
        while left:
            index, said = await queue.get()
            if isinstance(said, Refused):
                raise said
            if said is ended:
                left -= 1
            else:
                yield index, said
    finally:
        for task, stream in zip(tasks, streams, strict=True):
            task.cancel()
            with suppress(Exception):
                stream.cancel()
