"""What every place for large bodies must do."""

from __future__ import annotations

import random

import pytest
import trio

from whook.backplane.ports import Blobs
from whook.chassis.ids import new_id


@pytest.mark.parametrize("size", [0, 1, 1_048_576, 1_048_577, 5_000_000])
async def test_a_body_is_given_back(blobs: Blobs, size: int) -> None:
    name, body = new_id("evt"), random.Random(size).randbytes(size)
    await blobs.put(name, body)
    assert await blobs.get(name) == body


async def test_an_unknown_one_is_none(blobs: Blobs) -> None:
    assert await blobs.get(new_id("evt")) is None
    await blobs.delete([new_id("evt")])


async def test_repeated_it_stays(blobs: Blobs) -> None:
    name = new_id("evt")
    await blobs.put(name, b"body")
    await blobs.put(name, b"body")
    assert await blobs.get(name) == b"body"


async def test_deleted_it_is_gone(blobs: Blobs) -> None:
    names = [new_id("evt") for _ in range(3)]
    for name in names:
        await blobs.put(name, name.encode())
    await blobs.delete(names[:2])
    assert [await blobs.get(name) for name in names] == [None, None, names[2].encode()]


async def test_many_at_once(blobs: Blobs) -> None:
    bodies = {new_id("evt"): random.Random(n).randbytes(400_000) for n in range(8)}
    async with trio.open_nursery() as nursery:
        for name, body in bodies.items():
            nursery.start_soon(blobs.put, name, body)
    for name, body in bodies.items():
        assert await blobs.get(name) == body
