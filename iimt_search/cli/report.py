"""``iimt-search report``."""

from pathlib import Path
from typing import Any

import click

from iimt_search import api
from iimt_search.cli.options import data_root_option, json_option, which_options
from iimt_search.cli.printing import print_json


@click.command("report")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write; by default report.html in the study's folder.",
)
@click.option(
    "--figures",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write each figure too, as JSON and, where kaleido is installed, as PNG, to this folder.",
)
@click.option("--open", "show", is_flag=True, help="Open it in the browser.")
@which_options
@data_root_option
@json_option
def command(show: bool, as_json: bool, **options: Any) -> None:
    """Write a study's report: one HTML file that needs no network. Works while the study runs.

    Also brings the main figures to the Optuna dashboard, unless the study runs.
    """
    report = api.write_report(**options)
    path, files = report.path, report.figures
    if as_json:
        print_json(
            {
                "study": report.study,
                "report": str(path),
                "bytes": path.stat().st_size,
                "figures": report.names,
                "json": [] if files is None else [str(file) for file in files.json],
                "png": [] if files is None else [str(file) for file in files.png],
                "dashboard": report.dashboard,
            }
        )
    else:
        click.echo(f"report: {path}  ({path.stat().st_size / 1e6:.1f} MB)")
        if files is not None:
            click.echo(
                f"figures: {len(files.json)} JSON and {len(files.png)} PNG files in {options['figures']}/"
            )
            if files.no_png:
                click.echo(f"no PNG: {files.no_png}")
        click.echo(report.dashboard)
    if show:
        click.launch(str(path))
