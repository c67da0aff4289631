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
from pickle import UnpicklingError

from iimt_search.records import Evaluation, Event, Finished, Job, Report
from iimt_search.study.executors.inline import InlineExecutor
from iimt_search.study.executors.processes import keeping_freed_memory, signals_kept

_GATHERING_SECONDS = 0.2
_ENDING_SECONDS = 10.0
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
            if isinstance(event, Finished) and event.status == "lost":
                return  # a device that failed stays so for its process; memory comes back with its end


def _die_with_driver() -> None:
    """End this process when the driver has died: its connection would show it at the next report only."""
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)


def worker_main(connection: Connection, threads: int, population: int, debug: bool, gpu: str = "") -> None:
    """Serve jobs until the driver closes its end or dies; ``gpu`` is the one that it sees, "" for all."""
    if gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # before torch looks
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
    gpu: str
    keys: list[str] = field(default_factory=list)
    asked: float = 0.0  # when it was told last what to do; 0 where it waits to be told
    evaluations: int = 1  # the most that one of its jobs has
    hung: bool = False


class LocalExecutor:
    """An executor of worker processes, started once.

    A worker that dies (killed, out of memory), or that the machine fails (no GPU memory, a full disk), ends
    its jobs as ``lost`` and is replaced; so does one that is not heard of for much longer than any has taken
    between two reports: it hangs, and is killed.

    Args:
        workers: how many processes, at least 1.
        threads: PyTorch's threads in each.
        debug: the error of a failed job is its traceback.
        population: how many jobs each worker trains side by side, as one batched computation.
        gpus: as CUDA names them, shared out among the workers in turn; empty where each sees them all.
        patience: seconds without a word from a worker before it may be taken to hang. The first report of
            all may take 48 times as long.

    Raises:
        ValueError: there are no workers, or no places in them.
    """

    def __init__(
        self,
        workers: int,
        threads: int,
        debug: bool = False,
        population: int = 1,
        gpus: Sequence[str] = (),
        patience: float = 1800,
    ) -> None:
        if workers < 1 or population < 1:
            raise ValueError(
                f"`workers >= 1` and `population >= 1` must hold, got {workers} and {population}"
            )
        self._threads, self._population, self._debug = threads, population, debug
        self._patience, self._slowest = patience, 0.0
        self._unsent: list[Event] = []
        shared = [gpus[at % len(gpus)] if gpus else "" for at in range(workers)]
        self._workers = [_Worker(*self._start(gpu), gpu) for gpu in shared]

    def _start(self, gpu: str) -> tuple[SpawnProcess, Connection]:
        ours, theirs = _CONTEXT.Pipe()
        process = _CONTEXT.Process(
            target=worker_main,
            args=(theirs, self._threads, self._population, self._debug, gpu),
            daemon=True,
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
        try:
            if not worker.keys and not worker.process.is_alive():
                self._replace(worker)
            try:
                worker.connection.send(job)
            except OSError:  # it has died this moment
                if worker.keys:
                    raise  # the next wait says so of all its jobs
                self._replace(worker)
                worker.connection.send(job)
        except OSError as error:
            self._unsent.append(Finished(job.key, "lost", f"its process cannot be reached: {error}"))
        else:
            worker.keys.append(job.key)
            worker.evaluations = max(worker.evaluations, job.settings.evaluations)
            worker.asked = time.monotonic()

    def _replace(self, worker: _Worker) -> None:
        """Start another process in the place of one that has ended."""
        worker.connection.close()
        worker.process, worker.connection = self._start(worker.gpu)
        worker.hung = False

    def _end(self, worker: _Worker) -> str:
        """Wait for the end of a process that has closed its connection; returns how it ended."""
        worker.process.join(_ENDING_SECONDS)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
            return "its process hung and was ended"
        if worker.hung:
            return "its process did not answer any more, and was killed"
        if worker.process.exitcode == -signal.SIGKILL:
            return "its process was killed; the machine may be out of memory"
        return f"its process ended with exit code {worker.process.exitcode}"

    def _receive(self, worker: _Worker) -> list[Event]:
        events: list[Event] = []
        try:
            event: Report | Finished = worker.connection.recv()
            if not isinstance(event, Finished):
                if worker.asked:
                    self._slowest = max(self._slowest, time.monotonic() - worker.asked)
                worker.asked = 0.0 if self._population == 1 else time.monotonic()
                return [event]
            worker.keys.remove(event.key)
            worker.asked = time.monotonic()
            events.append(event)
            if event.status != "lost":
                return events
            self._end(worker)
            reason = f"the process that it shared with {event.key} has ended: {event.error}"
        except (EOFError, OSError, UnpicklingError):  # nothing, or half a message
            reason = self._end(worker)
        lost, worker.keys = worker.keys, []
        return [*events, *(Finished(key, "lost", reason) for key in lost)]

    def _end_what_hangs(self, silent: Iterable[_Worker]) -> None:
        """Kill workers that are silent for much longer than the slowest report has taken.

        A training's last evaluation may take as long as the whole of it: a validator trains in reverse.
        """
        for worker in silent:
            limit = max(self._patience, max(20, 3 * worker.evaluations) * self._slowest)
            if not self._slowest:
                limit = 48 * self._patience
            if worker.asked and time.monotonic() - worker.asked > limit:
                worker.hung = True
                worker.process.kill()

    def wait(self, timeout: float) -> Sequence[Event]:
        """Return the events of the workers that have sent one."""
        unsent, self._unsent = self._unsent, []
        if unsent:
            return unsent
        busy = {worker.connection: worker for worker in self._workers if worker.keys}
        ready = wait(list(busy), timeout)
        self._end_what_hangs(worker for connection, worker in busy.items() if connection not in ready)
        return [event for c in ready if isinstance(c, Connection) for event in self._receive(busy[c])]

    def answer(self, key: str, go_on: bool, scored: Evaluation | None = None) -> None:
        """Pass the answer on; a worker that has died meanwhile is noticed by the next :meth:`wait`."""
        for worker in self._workers:
            if key in worker.keys:
                worker.asked = time.monotonic()
                with suppress(OSError):
                    worker.connection.send((key, go_on))

    def close(self) -> None:
        """Terminate the workers; their jobs keep their last checkpoint."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()
            worker.connection.close()
