"""What runs jobs in a worker process of its own."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import Connection

from iimt_search.records import Job
from iimt_search.study.job_set import JobSet

_GATHERING_SECONDS = 0.2


def _serve(connection: Connection, population: int, debug: bool) -> None:
    """Take jobs and answers, send events.

    A message is a :class:`Job`, or a job's key with the answer to its report.
    """
    jobs = JobSet(debug)

    def hear() -> None:
        message: Job | tuple[str, bool] = connection.recv()
        if isinstance(message, Job):
            jobs.add(message)
        else:
            jobs.answer(*message)

    while True:
        while not len(jobs) or jobs.waiting:
            hear()
        # Who joins now trains with the others, who comes later waits for their next evaluation.
        while len(jobs) < population and connection.poll(_GATHERING_SECONDS if population > 1 else 0):
            hear()
        for event in jobs.advance():
            connection.send(event)


def _die_with_driver() -> None:
    """End this process when the driver has died: it would learn of it at its next report only."""
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)


def worker_main(connection: Connection, threads: int, population: int, debug: bool) -> None:
    """Serve jobs until the driver closes its end or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
    threading.Thread(target=_die_with_driver, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    from iimt_search.training.heap import keep_freed_memory

    keep_freed_memory()
    import torch

    torch.set_num_threads(threads)
    try:
        _serve(connection, population, debug)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
