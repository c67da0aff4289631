"""The Tune searcher that hands out the driver's jobs: what to try is decided by Optuna, in the driver."""

from typing import Any

from ray.tune.search import Searcher

from iimt_search.study.ray.exchange import Exchange

# With nothing under way Tune asks once a second only; it is kept waiting within the question instead.
_IDLE_SECONDS = 60.0


class JobSearcher(Searcher):
    """Suggests each submitted job once.

    Args:
        exchange: where the driver puts jobs.
        constants: what every trial's configuration holds beside its job.
    """

    def __init__(self, exchange: Exchange, constants: dict[str, Any]) -> None:
        super().__init__()
        self._exchange, self._constants = exchange, constants
        self._begun = False

    def suggest(self, trial_id: str) -> Any:
        """Return a job as a configuration, None where there is none yet."""
        job = self._exchange.next_job(0.0 if self._begun else _IDLE_SECONDS)
        if job is None:
            return Searcher.FINISHED if self._exchange.closed else None
        self._begun = True
        return {**self._constants, **job}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: the scheduler tells the driver."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a restarted driver submits its jobs again."""
