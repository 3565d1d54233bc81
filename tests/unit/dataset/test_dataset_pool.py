import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from luthier_dataset.pool import ChildDied, Pool

PROGRAM = """
import os, sys, time
from luthier_dataset.child import serve

def handle(line):
    word, *rest = line.decode().split()
    print("libraries print what they like")
    if word == "die":
        os._exit(7)
    if word == "sleep":
        time.sleep(60)
    if word == "env":
        return str(os.environ.get(rest[0])).encode()
    return f"{os.getpid()} {word}".encode()

if __name__ == "__main__":
    serve(handle)
"""


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[Pool]:
    (tmp_path / "pool_program.py").write_text(PROGRAM)
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "SHOWN": "yes"}
    async with Pool("pool_program", size=2, env=env, quiet=True) as opened:
        yield opened


async def test_a_child_answers_job_after_job(pool: Pool) -> None:
    first = (await pool.run(b"one")).split()
    second = (await pool.run(b"two\n")).split()
    assert (first[1], second[1]) == (b"one", b"two")
    assert first[0] == second[0]


async def test_jobs_at_once_use_as_many_children_as_the_pool_may_have(pool: Pool) -> None:
    answers = await asyncio.gather(*(pool.run(b"go") for _ in range(8)))
    assert len({answer.split()[0] for answer in answers}) == 2


async def test_the_environment_is_the_one_given(pool: Pool) -> None:
    assert await pool.run(b"env SHOWN") == b"yes\n"


async def test_a_child_that_dies_costs_its_job_only(pool: Pool) -> None:
    with pytest.raises(ChildDied) as death:
        await pool.run(b"die")
    assert death.value.status == 7
    assert (await pool.run(b"go")).endswith(b"go\n")


async def test_a_job_that_hangs_is_ended_with_its_child(pool: Pool) -> None:
    before = (await pool.run(b"go")).split()[0]
    with pytest.raises(TimeoutError):
        await pool.run(b"sleep", timeout=0.3)
    assert not Path(f"/proc/{int(before)}").exists()
    assert (await pool.run(b"go")).split()[0] != before


async def test_nothing_is_left_of_a_closed_pool(pool: Pool) -> None:
    child = int((await pool.run(b"go")).split()[0])
    await pool.close()
    assert not Path(f"/proc/{child}").exists()
