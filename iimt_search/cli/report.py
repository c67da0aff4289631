"""``iimt-search report``."""

from pathlib import Path

import click

from iimt_search.cli.options import (
    data_root_option,
    json_option,
    print_json,
    root_option,
    storage_option,
    study_option,
)


@click.command("report")
@study_option
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
@data_root_option
@storage_option
@root_option
@json_option
def command(
    study: str | None,
    output: Path | None,
    figures: Path | None,
    show: bool,
    data_root: Path | None,
    storage: str | None,
    root: Path,
    as_json: bool,
) -> None:
    """Write a study's report: one HTML file that needs no network. Works while the study runs.

    Also brings the main figures to the Optuna dashboard, unless the study runs.
    """
    from iimt_search.dashboard.publish import publish_parts
    from iimt_search.report.write import gather, write_figures, write_report
    from iimt_search.study.open import open_study

    opened = open_study(root, study, storage)
    path = output or opened.folder.path / "report.html"
    parts = gather(opened)
    write_report(opened, parts, path)
    written = None if figures is None else write_figures(parts, figures)
    published = publish_parts(opened, parts)
    if as_json:
        print_json(
            {
                "study": opened.folder.name,
                "report": str(path),
                "bytes": path.stat().st_size,
                "figures": [d.name for part in parts for section in part.sections for d in section.drawings],
                "json": [] if written is None else [str(each) for each in written.json],
                "png": [] if written is None else [str(each) for each in written.png],
                "dashboard": published,
            }
        )
    else:
        click.echo(f"report: {path}  ({path.stat().st_size / 1e6:.1f} MB)")
        if written is not None:
            click.echo(f"figures: {len(written.json)} JSON and {len(written.png)} PNG files in {figures}/")
            if written.no_png:
                click.echo(f"no PNG: {written.no_png}")
        click.echo(published)
    if show:
        click.launch(str(path))
