"""Starts Ray on this machine, or attaches to a cluster; quietly, and leaves nothing behind."""

import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iimt_search.errors import IimtSearchError, StudyError, UsageError
from iimt_search.space.schema import Resources
from iimt_search.study.executors.processes import KEEP_FREED_MEMORY, keeping_freed_memory, signals_kept

# Read by Ray in this process and, where it is started here, in its own.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # Tune's own record of the run: the study is the record, this one would grow with every trial.
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    # How many trials Tune takes before their actors run; the driver never submits more than fit.
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",
}
# Ray's own folder while it runs, and the file in the study's that says where it is.
_PREFIX, _NOTE = "iimt-ray-", "session.txt"
_OBJECT_STORE_BYTES = 200_000_000


def _log_to_file(logs: Path) -> logging.Handler:
    """Let what Ray's Python side says go to a file; ``ray.init`` has it go to the terminal."""
    handler = logging.FileHandler(logs / "driver.log", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("ray")
    for other in list(logger.handlers):
        logger.removeHandler(other)
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    # It misses the result files that we tell Tune not to write.
    logging.getLogger("ray.tune.analysis").setLevel(logging.ERROR)
    logger.propagate = False
    return handler


def _take_logs(logs: Path) -> None:
    """Move the log files of the last session of Ray to ``logs``, in the place of the one before."""
    note = logs / _NOTE
    if not note.exists():
        return
    temporary = Path(note.read_text(encoding="utf-8"))
    note.unlink()
    sessions = list(temporary.glob("session_2*")) if temporary.name.startswith(_PREFIX) else []
    if sessions:
        for earlier in logs.glob("session_2*"):
            shutil.rmtree(earlier, ignore_errors=True)
    for session in sessions:
        shutil.copytree(session / "logs", logs / session.name, dirs_exist_ok=True, symlinks=True)
        shutil.rmtree(temporary, ignore_errors=True)


def _check_address(address: str) -> None:
    """Check that something listens there: Ray itself would try for many minutes."""
    if address.startswith("ray://"):
        raise UsageError(
            f"`ray_address={address}`: the driver runs on a machine of the cluster; give auto, or HOST:PORT"
        )
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"`ray_address` must be auto or HOST:PORT, such as 10.0.0.1:6379; got {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise StudyError(
            f"no Ray cluster answers at {address}: {error}; start one with: ray start --head"
        ) from error


class RaySession:
    """A connection to Ray, for as long as an executor lives.

    Args:
        address: of a cluster; None starts Ray on this machine, or uses one that this process has.
        cpus: trials' processors to offer where Ray is started here.
        logs: folder for Ray's log files.

    Raises:
        UsageError: the address is one that cannot be used.
        StudyError: Ray cannot be started or reached.
    """

    def __init__(self, address: str | None, cpus: int, logs: Path) -> None:
        os.environ.update({name: value for name, value in _ENVIRONMENT.items() if name not in os.environ})
        import ray

        self._logs = logs
        logs.mkdir(parents=True, exist_ok=True)
        self._temporary: Path | None = None
        self._handler: logging.Handler | None = None
        self.started = not ray.is_initialized()
        if self.started:
            with signals_kept():
                self._init(address, cpus)
        self._handler = _log_to_file(logs)

    def _init(self, address: str | None, cpus: int) -> None:
        import ray

        quiet: dict[str, Any] = {
            "log_to_driver": False,
            "logging_level": logging.CRITICAL,
            "namespace": "iimt-search",
        }
        if address is None:
            # Ray's sockets lie in its folder; their paths must be short, and on a local disk.
            self._temporary = Path(tempfile.mkdtemp(prefix=_PREFIX))
            _take_logs(self._logs)  # of a driver that was killed
            (self._logs / _NOTE).write_text(str(self._temporary), encoding="utf-8")
            quiet |= {
                "address": "local",
                "num_cpus": cpus,
                "include_dashboard": False,
                "object_store_memory": _OBJECT_STORE_BYTES,
                "_node_ip_address": "127.0.0.1",
                "_temp_dir": str(self._temporary),
            }
        try:
            if address is not None:
                _check_address(address)
                quiet |= {"address": address, "runtime_env": {"env_vars": KEEP_FREED_MEMORY}}
            # What Ray prints of dying processes, log_to_driver or not; it stands in its log files.
            ray._private.worker._worker_logs_enabled = False
            with keeping_freed_memory():  # of a Ray that is started here
                ray.init(**quiet)
        except Exception as error:
            self.close()
            if isinstance(error, IimtSearchError):
                raise
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            where = "Ray does not start" if address is None else f"Ray cannot be reached at {address}"
            raise StudyError(f"{where}: {reason}; its logs are in {self._logs}") from error

    def close(self) -> None:
        """End what was begun here; log files stay in the study's folder."""
        import ray

        if self.started:
            with signals_kept():
                ray.shutdown()
        if self._temporary is not None:
            _take_logs(self._logs)
        if self._handler is not None:
            logging.getLogger("ray").removeHandler(self._handler)
            self._handler.close()


def node_capacity(offered: Mapping[str, float], wanted: Mapping[str, float]) -> int:
    """Return how many trials one machine holds. A share of a GPU is of one: four tenths fit twice on each.

    Args:
        offered: the machine's resources by Ray's names, in Ray's units (memory in bytes).
        wanted: a trial's, by the same names; those of 0 do not count.
    """

    def count(name: str, amount: float) -> int:
        have = offered.get(name, 0.0)
        if name == "GPU" and amount < 1:
            return int(have) * int(1 / amount + 1e-9)
        return int(have / amount + 1e-9)

    return min((count(name, amount) for name, amount in wanted.items() if amount > 0), default=0)


def cluster_capacity(resources: Resources) -> int:
    """Return how many trials the machines that are alive now hold together."""
    import ray

    wanted = resources.by_ray_name()
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return sum(node_capacity(node["Resources"], wanted) for node in nodes if node["Alive"])
