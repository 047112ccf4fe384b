"""Worker processes that die with their parent.

Invariant: a worker watches its parent and ends with it, however that died and whatever the worker was doing; an
interrupt from the keyboard reaches the parent alone, which ends its workers.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

Work = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one job: a value, or the reason why there is none."""

    index: int  # of the job
    value: Any = None
    failure: str = ""


class _Worker:
    def __init__(self, start: Callable[..., Work], arguments: tuple[Any, ...]) -> None:
        context = mp.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=_serve, args=(theirs, start, arguments), daemon=True
        )
        self.process.start()
        theirs.close()
        self.index = -1

    def give(self, index: int, job: Any) -> None:
        self.index = index
        with suppress(BrokenPipeError):  # a dead worker is noticed when its answer is read
            self.pipe.send(job)

    def answer(self) -> Outcome:
        try:
            value, failure = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            return Outcome(index=self.index, failure=f"its process died (exit code {self.process.exitcode})")
        return Outcome(index=self.index, value=value, failure=failure)

    def end(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join()


def outcomes(
    jobs: Sequence[Any], n_workers: int, start: Callable[..., Work], arguments: tuple[Any, ...]
) -> Iterator[Outcome]:
    """Yield the outcome of every job as it comes.

    Args:
        jobs: what the workers are given, in this order; picklable.
        n_workers: processes; 0 works in this process.
        start: called once in each worker with ``arguments``; returns the function that does a job.
        arguments: picklable.
    """
    if n_workers == 0:
        yield from _here(jobs, start(*arguments))
        return
    waiting = list(enumerate(jobs))[::-1]
    workers: list[_Worker] = []
    try:
        for _ in range(min(n_workers, len(jobs))):
            workers.append(_Worker(start, arguments))
            workers[-1].give(*waiting.pop())
        while workers:
            ready = wait([worker.pipe for worker in workers])
            for worker in [one for one in workers if one.pipe in ready]:
                outcome = worker.answer()
                workers.remove(worker)
                if not waiting or not worker.process.is_alive():
                    worker.end()
                if waiting:
                    successor = worker if worker.process.is_alive() else _Worker(start, arguments)
                    workers.append(successor)
                    successor.give(*waiting.pop())
                yield outcome
    finally:
        for worker in workers:
            worker.end()


def _here(jobs: Sequence[Any], work: Work) -> Iterator[Outcome]:
    for index, job in enumerate(jobs):
        value, failure = _attempt(work, job)
        yield Outcome(index=index, value=value, failure=failure)


def _serve(pipe: Connection, start: Callable[..., Work], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    work, failure = _attempt(lambda ready: start(*ready), arguments)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            job = pipe.recv()
            pipe.send((None, failure) if failure else _attempt(work, job))


def _end_with_parent() -> None:
    parent = mp.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)  # in the middle of a job: no process waits for it


def _attempt(work: Work, job: Any) -> tuple[Any, str]:
    try:
        return work(job), ""
    except Exception as error:  # whatever a method raises is a failure of its job, reported by the parent
        where = traceback.extract_tb(error.__traceback__)[-1]
        return None, f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})"
