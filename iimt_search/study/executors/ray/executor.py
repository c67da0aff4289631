"""Runs jobs as Ray Tune trials, on this machine or on a cluster."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from iimt_search.errors import StudyError
from iimt_search.records import Evaluation, Event, Finished, Job, Report
from iimt_search.space import Space
from iimt_search.space.schema import Resources
from iimt_search.study.executors.ray.channel import Channel
from iimt_search.study.executors.ray.remote_files import DriverFiles
from iimt_search.study.executors.ray.session import RaySession, cluster_capacity


@dataclass(frozen=True)
class RayOptions:
    """How the Ray executor runs.

    Attributes:
        folder: the study's folder.
        resources: of each trial.
        address: of a cluster, as ``ray.init`` takes it; None starts Ray on this machine.
        storage: where machines without a shared disk exchange files; None: they share the study's folder.
        workers: at most so many trials at once; by default what the cluster offers.
        cores: processors to offer where Ray is started on this machine.
        space: where its pruner is one of Tune's, Tune decides which trials are stopped early.
        debug: the error of a failed trial is its traceback.
    """

    folder: Path
    resources: Resources = field(default_factory=Resources)
    address: str | None = None
    storage: str | None = None
    workers: int | None = None
    cores: int = 1
    debug: bool = False
    space: Space | None = None


_LOOK_EVERY = 2.0
_INHERITED = ("IIMT_CACHE", "IIMT_DATA")


def _absolute(path: str) -> str:
    """Return a path as seen from anywhere; "" stays."""
    return path and str(Path(path).absolute())


class RayExecutor:
    """An executor whose workers are Ray actors; Tune starts, places, reuses and watches them.

    Tune runs in a thread of its own. It takes jobs from the driver and asks it about every result: what
    to try, what to stop and what to try again is decided in the driver, as with every executor.

    Raises:
        StudyError: Ray cannot be started or reached, or no machine can ever run a trial.
    """

    def __init__(self, options: RayOptions, line: Callable[[str], None] = lambda _: None) -> None:
        if options.storage is not None and "://" not in options.storage:
            options = replace(options, storage=_absolute(options.storage))
        self._options = options
        self._channel = Channel()
        self._live: dict[str, Job] = {}
        self._files = None if options.storage is None else DriverFiles(options.storage, options.folder.name)
        self._most, self._looked, self._known = 0, -_LOOK_EVERY, 0
        self._runs = options.folder.absolute() / "ray" / "tune"
        cpus = max(options.cores, int((options.workers or 0) * options.resources.cpus))
        self._session = RaySession(options.address, cpus, options.folder / "ray")
        if not cluster_capacity(options.resources):
            text = f"no machine offers what a trial asks for: {options.resources}"
            if options.address is None:
                self._session.close()
                raise StudyError(f"{text}; ask for less")
            line(f"{text}; waiting for one that does")
        self._thread = threading.Thread(target=self._tune, name="ray-tune", daemon=True)
        self._thread.start()

    def _constants(self) -> dict[str, Any]:
        """Return what every trial's configuration holds beside its job."""
        return {
            "threads": max(1, int(self._options.resources.cpus)),
            "debug": self._options.debug,
            "folder": os.getcwd(),
            "storage": self._options.storage,
            "study": self._options.folder.name,
            "environment": {name: os.environ[name] for name in _INHERITED if name in os.environ},
        }

    def _tune(self) -> None:
        from ray import tune

        from iimt_search.study.executors.ray.scheduler import ClosedStopper, DriverScheduler, JobSearcher
        from iimt_search.study.executors.ray.schedules import make_schedule
        from iimt_search.study.executors.ray.trainable import JobTrainable

        resources = self._options.resources
        error: BaseException | None = None
        try:
            schedule = None if self._options.space is None else make_schedule(self._options.space)
            tune.run(
                tune.with_resources(JobTrainable, tune.PlacementGroupFactory([resources.by_ray_name()])),
                name=f"run-{os.getpid()}",
                storage_path=str(self._runs),
                search_alg=JobSearcher(self._channel, self._constants()),
                scheduler=DriverScheduler(self._channel, schedule),
                stop=ClosedStopper(self._channel),
                num_samples=-1,
                reuse_actors=True,
                max_failures=0,
                raise_on_failed_trial=False,
                trial_name_creator=lambda trial: trial.config["job"].key,
                trial_dirname_creator=lambda trial: trial.trial_id,
                verbose=0,
            )
        except BaseException as raised:  # the driver's thread raises it on
            error = raised
        self._channel.close(error)

    @property
    def capacity(self) -> int:
        """How many trials the cluster's machines hold now, at most ``workers``, at least 1."""
        if time.monotonic() - self._looked >= _LOOK_EVERY:
            self._known = cluster_capacity(self._options.resources)
            self._looked = time.monotonic()
        count = max(1, min(self._known, self._options.workers or self._known))
        self._most = max(self._most, count)
        return count

    def submit(self, job: Job) -> None:
        """Hand the job to Tune."""
        # A lost machine's jobs come again at once, and wait for the machines that are left.
        if len(self._live) >= max(self._most, self.capacity):
            raise RuntimeError(f"all {self._most} workers are busy")
        job = replace(job, folder=_absolute(job.folder), kept=_absolute(job.kept))
        self._live[job.key] = job
        prepared = [] if self._files is None else self._files.upload_inputs(job)
        self._channel.submit({"job": job, "prepared": prepared})

    def wait(self, timeout: float) -> Sequence[Event]:
        """Return the events since the last call.

        Raises:
            StudyError: Ray has ended, or what a node has left in the shared storage cannot be downloaded.
        """
        events = self._channel.events(timeout)
        for event in events:
            self._download(event)
        if self._channel.closed and not events:
            raise StudyError(f"Ray has ended: {self._channel.error}; run the same command to continue")
        return events

    def _download(self, event: Event) -> None:
        """Download the files of an event, so that the driver finds them where it looks."""
        job, files = self._live[event.key], self._files
        if isinstance(event, Finished):
            del self._live[event.key]
        if files is None:
            return
        try:
            if isinstance(event, Report):
                files.download_kept(job, event.evaluation)
                return
            if event.fork is not None and (donor := self._live.get(event.fork.donor)) is not None:
                files.download_checkpoint(donor)
            if event.status != "lost":
                files.delete(job)
        except OSError as error:
            raise StudyError(f"`ray_storage={self._options.storage}`: {error}") from error

    def answer(self, key: str, go_on: bool, scored: Evaluation | None = None) -> None:
        """Answer a job's report; Tune's own schedule goes by what the driver has scored."""
        self._channel.answer(key, go_on, scored)

    def close(self) -> None:
        """End every trial; the jobs keep their last checkpoint. A cluster goes on, Ray started here ends."""
        self._channel.close()
        self._thread.join()
        if self._files is not None:
            for job in self._live.values():
                self._files.download_checkpoint(job)
                self._files.delete(job)
        shutil.rmtree(self._runs, ignore_errors=True)
        self._session.close()
