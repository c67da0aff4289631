"""``python -m benchmarks``: step, search, startup, scale. Medians and ratios, interleaved in one run."""

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
rounds_option = click.option("--rounds", default=15, show_default=True, help="How often each is timed.")


def _print(content: Any, as_json: bool, lines: list[str]) -> None:
    click.echo(json.dumps(content, indent=2) if as_json else "\n".join(lines))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure speed. How well validators pick: python -m benchmarks.validators."""


@main.command()
@click.option(
    "--size", "sizes", multiple=True, default=(16, 32), show_default=True, help="Image side, pixels."
)
@click.option("--threads", default=2, show_default=True)
@rounds_option
@json_option
def step(sizes: tuple[int, ...], threads: int, rounds: int, as_json: bool) -> None:
    """One training step against a plain one and pytorch-adapt's DANN step."""
    from benchmarks.step import measure_step

    found = [measure_step(size, threads, rounds) for size in sizes]
    lines = []
    for row in found:
        times = ", ".join(f"{name} {value:.1f} ms" for name, value in row["milliseconds"].items())
        lines.append(f"{row['image_size']} px, {threads} threads, {row['precision']}: {times}")
        dann = f", {row['of_dann_step']:.2f} of a DANN step" if "of_dann_step" in row else ""
        lines.append(
            f"  {row['faster_than_plain']:.2f} times faster than plain{dann}; {row['gflop']:.1f} GFLOP at "
            f"{100 * row['share_of_matrix_rate']:.0f} % of {row['matrix_gflops']:.0f} GFLOP/s"
        )
    _print(found, as_json, lines)


@main.command()
@click.option("--workers", multiple=True, default=(1, 2), show_default=True, help="Numbers of workers.")
@click.option("--trials", default=6, show_default=True)
@click.option("--steps", default=200, show_default=True)
@click.option("--size", default=16, show_default=True, help="Image side, pixels.")
@json_option
def search(workers: tuple[int, ...], trials: int, steps: int, size: int, as_json: bool) -> None:
    """Trials an hour for numbers of workers, and the tool's own share of the time."""
    from benchmarks.search import measure_search

    found = measure_search(workers, trials, steps, size)
    lines = ["shares: " + ", ".join(f"{name} {100 * share:.1f} %" for name, share in found["shares"].items())]
    lines += [f"{name}: {value:.0f} trials an hour" for name, value in found["trials_an_hour"].items()]
    _print(found, as_json, lines)


@main.command()
@rounds_option
@json_option
def startup(rounds: int, as_json: bool) -> None:
    """The command line's start against a bare Python that imports click."""
    from benchmarks.startup import measure_startup

    found = measure_startup(rounds)
    lines = [f"{n:16s} {r['milliseconds']:7.0f} ms  {r['of_bare']:5.2f} of bare" for n, r in found.items()]
    _print(found, as_json, lines)


@main.command()
@click.option("--trials", "counts", multiple=True, default=(10, 1000, 10_000), show_default=True)
@click.option("--rounds", default=3, show_default=True)
@json_option
def scale(counts: tuple[int, ...], rounds: int, as_json: bool) -> None:
    """Status and best on studies of many trials."""
    from benchmarks.scale import measure_scale

    found = measure_scale(counts, rounds)
    _print(found, as_json, [f"{name:24s} {row['seconds']:6.2f} s" for name, row in found.items()])


@main.command()
@click.option(
    "--sampler", "samplers", multiple=True, default=("random", "qmc", "tpe", "gp"), show_default=True
)
@click.option("--storage", "storages", multiple=True, default=("sqlite", "postgresql"))
@click.option("--workers", "counts", multiple=True, default=(10, 100, 1000), show_default=True)
@click.option("--trials", default=5000, show_default=True, help="Of each search.")
@click.option("--limit", default=60.0, show_default=True, help="Seconds after which a search is cut.")
@click.option("--record", type=int, metavar="TRIALS", help="Train anew what is replayed, and stop there.")
@json_option
def cluster(
    samplers: tuple[str, ...],
    storages: tuple[str, ...],
    counts: tuple[int, ...],
    trials: int,
    limit: float,
    record: int | None,
    as_json: bool,
) -> None:
    """How many simulated workers with trials of 60 seconds one driver keeps busy."""
    from benchmarks.cluster import Cell, line, measure_cluster
    from benchmarks.cluster_curves import record_curves

    if record is not None:
        click.echo(record_curves(record))
        return
    cells = [
        Cell(sampler, storage, count, trials, limit)
        for storage in storages
        for sampler in samplers
        for count in counts
    ]
    for row in measure_cluster(cells):
        click.echo(json.dumps(row) if as_json else line(row))


@main.command()
@click.option("--threads", default=2, show_default=True)
@rounds_option
@json_option
def cost(threads: int, rounds: int, as_json: bool) -> None:
    """What a step and a run cost against batch, K, image size, steps, tasks and trials."""
    from benchmarks.cost import measure_cost

    found = measure_cost(rounds, threads)
    lines = []
    for name, row in found.items():
        each = (f"{n}: {r['milliseconds']:.0f} ms ({r['of_first']:.2f})" for n, r in row.items())
        lines.append(f"{name:18s} {', '.join(each)}")
    _print(found, as_json, lines)


@main.command()
@click.option("--members", multiple=True, default=(1, 4, 16, 64), show_default=True)
@click.option("--size", default=16, show_default=True, help="Image side, pixels.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--rounds", default=5, show_default=True)
@json_option
def population(members: tuple[int, ...], size: int, device: str, rounds: int, as_json: bool) -> None:
    """Trainings as one batched computation against one by one, on one device."""
    from benchmarks.population import measure_population

    found = measure_population(members, size, device, rounds)
    lines = [f"{found['device']}, {size} px"]
    for name, rate in found["steps_a_second"].items():
        lines.append(f"{name:>10s} {rate:8.1f} steps/s  {found['of_one_by_one'][name]:6.2f} of one by one")
    _print(found, as_json, lines)


@main.command()
@click.option(
    "--way", "ways", multiple=True, default=("one by one", "population", "plain"), show_default=True
)
@click.option("--seeds", default=5, show_default=True)
@click.option("--steps", default=200, show_default=True)
@click.option("--size", default=16, show_default=True, help="Image side, pixels.")
@json_option
def accuracy(ways: tuple[str, ...], seeds: int, steps: int, size: int, as_json: bool) -> None:
    """Test accuracy of default trainings: the fast step against the plain one."""
    from benchmarks.accuracy import measure_accuracy

    found = measure_accuracy(ways, seeds, steps, size)
    lines = []
    for task, row in found.items():
        lines += [f"{task:24s} {way:12s} {r['mean']:5.1f} ± {r['deviation']:.1f}" for way, r in row.items()]
    _print(found, as_json, lines)


@main.command()
@click.option("--folder", type=click.Path(path_type=Path), default="studies/validators-benchmark")
@click.option("--orders", default=20, show_default=True, help="Random orders of each case.")
@click.option("--real", is_flag=True, help="The tasks with MNIST, too.")
@json_option
def pruning(folder: Path, orders: int, real: bool, as_json: bool) -> None:
    """What pruners save and end by mistake, on the curves of python -m benchmarks.validators."""
    from benchmarks.pool import EMBEDDED, REAL
    from benchmarks.pruning import measure_pruning, recorded

    found = measure_pruning(recorded(folder, EMBEDDED + REAL * real, 24, 2), orders)
    lines = [
        f"{name:48s} saves {100 * r['saved']:4.1f} %, ends the best {100 * r['best_ended']:4.1f} %, "
        f"loses {r['accuracy_lost']:5.2f} points (worst {r['worst_accuracy_lost']:.1f})"
        for name, r in found.items()
    ]
    _print(found, as_json, lines)


@main.command()
@click.option("--trials", default=8, show_default=True)
@click.option("--steps", default=200, show_default=True)
@click.option("--size", default=16, show_default=True, help="Image side, pixels.")
@click.option("--rounds", default=3, show_default=True, help="How often each backend is run.")
@json_option
def backends(trials: int, steps: int, size: int, rounds: int, as_json: bool) -> None:
    """The same search with the local backend and with Ray Tune, two workers each."""
    from benchmarks.backends import measure_backends

    found = measure_backends(trials, steps, size, rounds)
    lines = [
        f"{name:6s} start {found[name]['start']:5.1f} s, then {found[name]['search']:6.1f} s: "
        f"{found[name]['trials_an_hour']:.0f} trials an hour"
        for name in ("local", "ray")
    ]
    each = ", ".join(f"{ratio:.3f}" for ratio in found["ratios"])
    _print(found, as_json, [*lines, f"Ray takes {found['ratio']:.3f} of the local time ({each})"])


@main.command()
@click.option("--source", type=click.Path(path_type=Path, exists=True), required=True, help="Class folders.")
@click.option("--target", type=click.Path(path_type=Path, exists=True), required=True, help="Class folders.")
@click.option("--network", default="torchvision:resnet18", show_default=True)
@click.option("--weights", default="none", show_default=True)
@click.option("--images", default=256, show_default=True, help="How many are timed.")
@click.option("--rounds", default=3, show_default=True, help="How often.")
@click.option("--steps", default=100, show_default=True, help="Training steps that are timed.")
@json_option
def photographs(
    source: Path,
    target: Path,
    network: str,
    weights: str,
    images: int,
    rounds: int,
    steps: int,
    as_json: bool,
) -> None:
    """Features against a plain library loop; a search on them against training the network in each trial."""
    from benchmarks.photographs import measure_photographs

    with TemporaryDirectory() as cache:
        os.environ["IIMT_CACHE"] = cache  # what is kept already would not be decoded
        found = measure_photographs(source, target, network, weights, images, rounds, steps)
    lines = [f"{name}: {value:.0f} images a second" for name, value in found["images_a_second"].items()]
    lines.append(f"ours / plain: {found['of_plain']:.2f}")
    lines += [f"a step {name}: {1000 * value:.0f} ms" for name, value in found["step_seconds"].items()]
    lines += [
        f"{name}: {value / 60:.0f} minutes, one worker" for name, value in found["search_seconds"].items()
    ]
    _print(found, as_json, lines)


@main.command()
@click.option("--inputs", default=100_000, show_default=True, help="Of all surfaces together.")
@click.option("--seed", default=0, show_default=True)
@click.option("--surface", "names", multiple=True, help="This one alone; may be given again.")
@click.option("--examples", is_flag=True, help="Show the first input of each finding, with its traceback.")
def hostile(inputs: int, seed: int, names: tuple[str, ...], examples: bool) -> None:
    """Changed inputs of everything that is read: what ends in anything but a clear error."""
    from benchmarks.hostile import measure_hostile

    found = measure_hostile(inputs, seed, names)
    for name, each in found.items():
        for what, (data, told) in each.examples.items() if examples else ():
            click.echo(f"{name}: {what}\n{data[:600]!r}\n{told}")
    wrong = sum(each.findings.total() for each in found.values())
    click.echo(f"{sum(each.tried for each in found.values())} inputs, {wrong} findings")
    raise SystemExit(wrong > 0)


@main.command()
@click.option(
    "--points", default=1000, show_default=True, help="Writes at which a run is killed; at most all."
)
@click.option("--moments", default=100, show_default=True, help="Random moments, of a driver alone.")
@click.option("--worker-moments", default=30, show_default=True, help="Of a worker, its driver, or both.")
@click.option("--seed", default=0, show_default=True)
def kills(points: int, moments: int, worker_moments: int, seed: int) -> None:
    """Runs that are killed, at every write and at random moments, against an uninterrupted one."""
    from benchmarks.kills import line, measure_kills

    found = measure_kills(points, moments, worker_moments, seed)
    click.echo("\n".join([*found.wrong, line(found)]))
    raise SystemExit(bool(found.wrong))


@main.command()
@click.option("--trials", default=2000, show_default=True, type=click.IntRange(min=8))
@click.option("--worker/--no-worker", default=True, show_default=True, help="In a worker process.")
@json_option
def soak(trials: int, worker: bool, as_json: bool) -> None:
    """Many short trials in one run: what each adds to memory, handles, and the database."""
    from benchmarks.soak import measure_soak

    found = measure_soak(trials, worker)
    lines = [f"{found['trials']:.0f} trials, {found['seconds']:.3f} s each"]
    lines += [f"database {found['database'] / 1000:+.2f} kB a trial"]
    for name in ("driver", "worker") if worker else ("driver",):
        lines.append(f"{name} {found[name] / 1000:+.2f} kB a trial, {found[f'{name}_handles']:+.1f} handles")
    _print(found, as_json, lines)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
