"""What runs a job: in a worker process of its own, or within the driver."""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection

from iimt_search.errors import IimtSearchError
from iimt_search.records import Finished, Job, Report


def run_job(job: Job) -> Iterator[Report]:
    """Run a job; yields a report at each evaluation, ends after the last one.

    Evaluations that a checkpoint already holds are reported again first, so that a driver which lost
    them gets the whole curve. Whoever iterates stops the job by not asking for the next report.
    """
    from iimt_search.training.trainable import Trainable

    trainable = Trainable(job)
    for evaluation in tuple(trainable.history):
        yield Report(job.key, evaluation)
    while not trainable.done:
        yield Report(job.key, trainable.advance())
    if job.models:
        trainable.export()


def describe(error: BaseException, debug: bool) -> str:
    """Return one line on what went wrong; with ``debug`` the traceback too."""
    if debug:
        return "".join(traceback.format_exception(error)).rstrip()
    name = "" if isinstance(error, IimtSearchError) else f"{type(error).__name__}: "
    return f"{name}{error}".replace("\n", " ")


def _serve(connection: Connection, debug: bool) -> None:
    while True:
        job: Job = connection.recv()
        outcome = Finished(job.key, "complete")
        try:
            for report in run_job(job):
                connection.send(report)
                if not connection.recv():
                    outcome = Finished(job.key, "stopped")
                    break
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:  # whatever a job raises fails that job, not its worker
            outcome = Finished(job.key, "failed", describe(error, debug))
        connection.send(outcome)


def _die_with_driver() -> None:
    """End this process when the driver has died: it would learn of it at its next report only."""
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)


def worker_main(connection: Connection, threads: int, debug: bool) -> None:
    """Serve jobs until the driver closes its end or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
    threading.Thread(target=_die_with_driver, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    from iimt_search.training.heap import keep_freed_memory

    keep_freed_memory()
    import torch

    torch.set_num_threads(threads)
    try:
        _serve(connection, debug)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
