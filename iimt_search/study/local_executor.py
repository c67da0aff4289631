"""Runs jobs in worker processes on this machine, started once."""

import multiprocessing
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from iimt_search.records import Event, Finished, Job, Report
from iimt_search.study.worker import worker_main

_CONTEXT = multiprocessing.get_context("spawn")


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Let a child process be born with Ctrl-C ignored, so that it never sees one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    key: str | None = None


class LocalExecutor:
    """An executor of ``workers`` processes with ``threads`` torch threads each.

    A worker that dies (killed, out of memory) ends its job as ``lost`` and is replaced.
    """

    def __init__(self, workers: int, threads: int, debug: bool = False) -> None:
        if workers < 1:
            raise ValueError(f"`workers >= 1` must hold, got {workers}")
        self._threads, self._debug = threads, debug
        self._workers = [self._start() for _ in range(workers)]

    def _start(self) -> _Worker:
        ours, theirs = _CONTEXT.Pipe()
        process = _CONTEXT.Process(target=worker_main, args=(theirs, self._threads, self._debug), daemon=True)
        with _interrupts_ignored():
            process.start()
        theirs.close()
        return _Worker(process, ours)

    @property
    def capacity(self) -> int:
        """The number of workers."""
        return len(self._workers)

    def submit(self, job: Job) -> None:
        """Send the job to a free worker."""
        for index, worker in enumerate(self._workers):
            if worker.key is None:
                if not worker.process.is_alive():
                    worker.connection.close()
                    worker = self._workers[index] = self._start()
                worker.connection.send(job)
                worker.key = job.key
                return
        raise RuntimeError(f"all {self.capacity} workers are busy")

    def _receive(self, worker: _Worker) -> Event:
        try:
            event: Report | Finished = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            worker.process.join()
            reason = f"its process ended with exit code {worker.process.exitcode}"
            if worker.process.exitcode == -signal.SIGKILL:
                reason = "its process was killed; the machine may be out of memory"
            event = Finished(worker.key or "", "lost", reason)
        if isinstance(event, Finished):
            worker.key = None
        return event

    def wait(self, timeout: float) -> Sequence[Event]:
        """Return the events of workers that have something to say."""
        busy = {worker.connection: worker for worker in self._workers if worker.key is not None}
        ready = wait(list(busy), timeout)
        return [self._receive(busy[c]) for c in ready if isinstance(c, Connection)]

    def answer(self, key: str, go_on: bool) -> None:
        """Pass the answer on; a worker that has died meanwhile is noticed by the next :meth:`wait`."""
        for worker in self._workers:
            if worker.key == key:
                try:
                    worker.connection.send(go_on)
                except (BrokenPipeError, ConnectionResetError):
                    continue

    def close(self) -> None:
        """Terminate the workers; their jobs keep their last checkpoint."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()
            worker.connection.close()
