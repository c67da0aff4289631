"""``python -m benchmarks``: step, search, startup, scale. Medians and ratios, interleaved in one run."""

import json
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


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
