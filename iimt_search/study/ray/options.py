"""How the Ray executor runs."""

from dataclasses import dataclass, field
from pathlib import Path

from iimt_search.space import Space
from iimt_search.space.schema import Resources


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
        debug: failed trials tell their traceback.
    """

    folder: Path
    resources: Resources = field(default_factory=Resources)
    address: str | None = None
    storage: str | None = None
    workers: int | None = None
    cores: int = 1
    debug: bool = False
    space: Space | None = None
