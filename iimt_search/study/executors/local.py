"""Runs jobs in worker processes on this machine, started once."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from iimt_search.records import Evaluation, Event, Finished, Job, Report
from iimt_search.study.executors.inline import InlineExecutor
from iimt_search.study.executors.processes import keeping_freed_memory, signals_kept

_GATHERING_SECONDS = 0.2
_CONTEXT = multiprocessing.get_context("spawn")


def _serve(connection: Connection, population: int, debug: bool) -> None:
    """Take jobs and answers, send events.

    A message is a :class:`Job`, or a job's key with the answer to its report.
    """
    jobs = InlineExecutor(debug, population)

    def receive() -> None:
        message: Job | tuple[str, bool] = connection.recv()
        if isinstance(message, Job):
            jobs.submit(message)
        else:
            jobs.answer(*message)

    while True:
        while not len(jobs) or jobs.waiting:
            receive()
        # Who joins now trains with the others, who comes later waits for their next evaluation.
        while len(jobs) < jobs.capacity and connection.poll(_GATHERING_SECONDS if population > 1 else 0):
            receive()
        for event in jobs.wait(0):
            connection.send(event)


def _die_with_driver() -> None:
    """End this process when the driver has died: its connection would show it at the next report only."""
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)


def worker_main(connection: Connection, threads: int, population: int, debug: bool) -> None:
    """Serve jobs until the driver closes its end or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
    threading.Thread(target=_die_with_driver, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _serve(connection, population, debug)


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    keys: list[str] = field(default_factory=list)
    asked: float = 0.0  # when it was told last what to do; 0 where it waits to be told
    hung: bool = False


class LocalExecutor:
    """An executor of worker processes, started once.

    A worker that dies (killed, out of memory) ends its jobs as ``lost`` and is replaced; so does one that is
    not heard of for much longer than any has taken between two reports: it hangs, and is killed.

    Args:
        workers: how many processes, at least 1.
        threads: PyTorch's threads in each.
        debug: the error of a failed job is its traceback.
        population: how many jobs each worker trains side by side, as one batched computation.
        patience: seconds without a word from a worker before it may be taken to hang. The first report of
            all may take ten times as long.

    Raises:
        ValueError: there are no workers, or no places in them.
    """

    def __init__(
        self, workers: int, threads: int, debug: bool = False, population: int = 1, patience: float = 1800
    ) -> None:
        if workers < 1 or population < 1:
            raise ValueError(
                f"`workers >= 1` and `population >= 1` must hold, got {workers} and {population}"
            )
        self._threads, self._population, self._debug = threads, population, debug
        self._patience, self._slowest = patience, 0.0
        self._workers = [_Worker(*self._start()) for _ in range(workers)]

    def _start(self) -> tuple[SpawnProcess, Connection]:
        ours, theirs = _CONTEXT.Pipe()
        process = _CONTEXT.Process(
            target=worker_main, args=(theirs, self._threads, self._population, self._debug), daemon=True
        )
        with signals_kept(ignore_interrupts=True), keeping_freed_memory():
            process.start()
        theirs.close()
        return process, ours

    @property
    def capacity(self) -> int:
        """The places in all workers."""
        return len(self._workers) * self._population

    def submit(self, job: Job) -> None:
        """Send the job to the worker with the fewest."""
        worker = min(self._workers, key=lambda worker: len(worker.keys))
        if len(worker.keys) == self._population:
            raise RuntimeError(f"all {self.capacity} places are taken")
        if not worker.keys and not worker.process.is_alive():
            worker.connection.close()
            worker.process, worker.connection = self._start()
            worker.hung = False
        worker.connection.send(job)
        worker.keys.append(job.key)
        worker.asked = time.monotonic()

    def _receive(self, worker: _Worker) -> list[Event]:
        try:
            event: Report | Finished = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            worker.process.join()
            reason = f"its process ended with exit code {worker.process.exitcode}"
            if worker.hung:
                reason = "its process did not answer any more, and was killed"
            elif worker.process.exitcode == -signal.SIGKILL:
                reason = "its process was killed; the machine may be out of memory"
            lost, worker.keys = worker.keys, []
            return [Finished(key, "lost", reason) for key in lost]
        if isinstance(event, Finished):
            worker.keys.remove(event.key)
        elif worker.asked:
            self._slowest = max(self._slowest, time.monotonic() - worker.asked)
        worker.asked = 0.0 if isinstance(event, Report) and self._population == 1 else time.monotonic()
        return [event]

    def _end_what_hangs(self, busy: Iterable[_Worker]) -> None:
        """Kill workers that are silent for much longer than the slowest report has taken."""
        limit = max(self._patience, 20 * self._slowest) if self._slowest else 10 * self._patience
        for worker in busy:
            if worker.asked and time.monotonic() - worker.asked > limit:
                worker.hung = True
                worker.process.kill()

    def wait(self, timeout: float) -> Sequence[Event]:
        """Return the events of the workers that have sent one."""
        busy = {worker.connection: worker for worker in self._workers if worker.keys}
        self._end_what_hangs(busy.values())
        ready = wait(list(busy), timeout)
        return [event for c in ready if isinstance(c, Connection) for event in self._receive(busy[c])]

    def answer(self, key: str, go_on: bool, scored: Evaluation | None = None) -> None:
        """Pass the answer on; a worker that has died meanwhile is noticed by the next :meth:`wait`."""
        for worker in self._workers:
            if key in worker.keys:
                worker.asked = time.monotonic()
                with suppress(BrokenPipeError, ConnectionResetError):
                    worker.connection.send((key, go_on))

    def close(self) -> None:
        """Terminate the workers; their jobs keep their last checkpoint."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()
            worker.connection.close()
