"""How many trials the machines of a Ray cluster hold."""

from collections.abc import Mapping
from typing import Any

from iimt_search.space.schema import Resources


def node_capacity(offered: Mapping[str, float], wanted: Mapping[str, float]) -> int:
    """Return how many trials one machine holds.

    A share of a GPU is a share of one: four tenths fit twice on each.

    Args:
        offered: the machine's resources by Ray's names, in Ray's units (memory in bytes).
        wanted: a trial's, by the same names; those of 0 do not count.
    """
    counts = []
    for name, amount in wanted.items():
        if amount <= 0:
            continue
        have = offered.get(name, 0.0)
        if name == "GPU" and amount < 1:
            counts.append(int(have) * int(1 / amount + 1e-9))
        else:
            counts.append(int(have / amount + 1e-9))
    return min(counts, default=0)


def cluster_capacity(resources: Resources) -> int:
    """Return how many trials the machines that are alive now hold together."""
    import ray

    wanted = resources.by_ray_name()
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return sum(node_capacity(node["Resources"], wanted) for node in nodes if node["Alive"])
