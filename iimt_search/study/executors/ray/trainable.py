"""The IIMT trainable as a Tune trainable: what runs on a node, one evaluation a step."""

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from iimt_search.errors import MachineError, describe, machine_failed
from iimt_search.records import Job, Report
from iimt_search.study.executors.inline import InlineExecutor

if TYPE_CHECKING:
    from iimt_search.study.executors.ray.remote_files import NodeFiles


class JobTrainable(tune.Trainable):
    """Runs jobs one after the other in one process.

    The configuration holds ``job`` and ``prepared`` (the keys of its data in the shared storage), and what
    is the same for all: ``threads``, ``debug``, ``folder`` (the driver's working folder), ``environment``
    (variables that this process takes over where it has none of its own), ``storage`` (the shared one, or
    None) and ``study`` (its folder there).

    An error of the job's own is a result, not an exception: the process serves the next job. One of the
    machine's ends the process.
    """

    _files: "NodeFiles | None" = None
    _jobs: InlineExecutor | None = None
    _job: Job

    def setup(self, config: dict[str, Any]) -> None:
        """Prepare the process, then the first job."""
        threads: int = config["threads"]
        os.environ["OMP_NUM_THREADS"] = str(threads)
        for name, value in config["environment"].items():
            os.environ.setdefault(name, value)
        if Path(config["folder"]).is_dir():  # where modules of python: domains are looked for
            os.chdir(config["folder"])
            sys.path.append(config["folder"])
        import torch

        torch.set_num_threads(threads)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next job; it is loaded at its first step."""
        self.cleanup()
        self._config, self._job, self._jobs = new_config, new_config["job"], None
        return True

    def _begin(self) -> InlineExecutor:
        config = self._config
        if config["storage"] is not None:
            from iimt_search.study.executors.ray.remote_files import NodeFiles

            self._files = NodeFiles(config["storage"], config["study"], config["job"], config["prepared"])
            self._job = self._files.job
        jobs = InlineExecutor(config["debug"])
        jobs.submit(self._job)
        return jobs

    def step(self) -> dict[str, Any]:
        """Return ``evaluation``; or after the last one, or an error, ``ended`` and ``error``."""
        try:
            if self._jobs is None:
                self._jobs = self._begin()
            if self._jobs.waiting:  # that Tune asks for another step is the answer
                self._jobs.answer(self._config["job"].key, True)
            (event,) = self._jobs.wait(0)
            if isinstance(event, Report):
                if self._files is not None:
                    self._files.upload(event.evaluation)
                return {"evaluation": event.evaluation, "note": event.note, "again": event.again}
        except Exception as error:  # of the shared storage, or the data: it fails this job, not its process
            self._jobs = None
            if machine_failed(error):
                raise
            return {"ended": "failed", "error": describe(error, self._config["debug"])}
        if event.status == "lost":  # a device that failed stays so for its process: Tune replaces it
            raise MachineError(event.error)
        self._jobs = None  # the process may wait for its next job for long
        return {"ended": event.status, "error": event.error}

    def cleanup(self) -> None:
        """Delete the scratch folder of the job before."""
        if self._files is not None:
            self._files.close()
        self._files = None

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Copy the job's own checkpoint, where it has come to one."""
        Path(self._job.folder).mkdir(parents=True, exist_ok=True)
        shutil.copytree(self._job.folder, checkpoint_dir, dirs_exist_ok=True)

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Go on from a checkpoint of :meth:`save_checkpoint`."""
        self.cleanup()
        self._jobs = self._begin()  # it loads what lies in its folder at its first step
        shutil.copytree(checkpoint, self._job.folder, dirs_exist_ok=True)
