"""No task vanishes: faults are reported once, and closing waits for everything."""

import asyncio
import logging

import pytest

from baton.tasks import TaskFault, Tasks


async def forever() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise ValueError("boom")


async def nothing() -> int:
    return 7


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_task_gives_its_result_and_is_forgotten() -> None:
    tasks = Tasks("owner")
    assert await tasks.spawn(nothing(), "seven") == 7
    await settle()
    assert tasks.names == ()


async def test_tasks_are_named_after_owner_and_purpose() -> None:
    async with Tasks("router") as tasks:
        task = tasks.spawn(forever(), "frames", eternal=True)
        assert tasks.names == ("router/frames",)
        assert task.get_name() == "router/frames"
    assert task.cancelled()


async def test_a_failure_is_logged_with_traceback_and_reported_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    faults: list[TaskFault] = []
    async with Tasks("o") as tasks:
        tasks.spawn(fail(), "t", on_fault=faults.append)
        await settle()
    assert [(fault.task, str(fault.error)) for fault in faults] == [("o/t", "boom")]
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)


async def test_an_eternal_task_that_returns_is_a_fault() -> None:
    faults: list[TaskFault] = []
    async with Tasks("o") as tasks:
        tasks.spawn(nothing(), "t", eternal=True, on_fault=faults.append)
        await settle()
    assert faults == [TaskFault("o/t", None)]


async def test_an_eternal_task_that_somebody_cancels_is_a_fault() -> None:
    faults: list[TaskFault] = []
    async with Tasks("o") as tasks:
        tasks.spawn(forever(), "t", eternal=True, on_fault=faults.append).cancel()
        await settle()
    assert faults == [TaskFault("o/t", None)]


async def test_what_ends_as_it_should_is_no_fault() -> None:
    faults: list[TaskFault] = []
    async with Tasks("o") as tasks:
        tasks.spawn(nothing(), "returns", on_fault=faults.append)
        tasks.spawn(forever(), "cancelled", on_fault=faults.append).cancel()
        tasks.spawn(forever(), "closed", eternal=True, on_fault=faults.append)
        await settle()
    assert faults == []


async def test_closing_waits_for_cleanup_and_logs_its_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cleaned: list[str] = []

    async def careful() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            cleaned.append("yes")
            raise ValueError("cleanup")

    faults: list[TaskFault] = []
    tasks = Tasks("o")
    tasks.spawn(careful(), "t", on_fault=faults.append)
    await settle()
    assert await tasks.aclose() == ()
    await settle()
    assert cleaned == ["yes"]
    assert faults == []
    assert "o/t failed" in caplog.text


async def test_a_task_that_will_not_end_is_named_within_the_bound() -> None:
    release = asyncio.Event()

    async def stubborn() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            await release.wait()

    tasks = Tasks("o")
    tasks.spawn(stubborn(), "t")
    await settle()
    assert await tasks.aclose(timeout_s=0.01) == ("o/t",)
    release.set()
    await settle()
    assert tasks.names == ()


async def test_a_closed_owner_starts_nothing() -> None:
    tasks = Tasks("o")
    assert await tasks.aclose() == await tasks.aclose() == ()
    with pytest.raises(RuntimeError, match="is closing"):
        tasks.spawn(nothing(), "late")


async def test_a_task_may_close_its_owner() -> None:
    tasks = Tasks("o")
    other = tasks.spawn(forever(), "other")

    async def closer() -> str:
        await tasks.aclose()
        return "closed"

    assert await tasks.spawn(closer(), "closer") == "closed"
    assert other.cancelled()
