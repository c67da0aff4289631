"""``iimt-search dashboard``."""

from typing import Any

import click

from iimt_search.cli.options import which_options
from iimt_search.study.open import open_study


@click.command("dashboard")
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="The dashboard has no login and can delete studies: leave it on loopback.",
)
@which_options
def command(port: int, host: str, **which: Any) -> None:
    """Serve the Optuna dashboard on a study's storage until Ctrl-C."""
    opened = open_study(**which)
    first = opened.studies[0]

    import optuna_dashboard

    from iimt_search.dashboard.artifacts import artifact_store

    # The images lie in the study's folder, which a machine that only watches does not have.
    store = artifact_store(opened.folder) if opened.folder.description.exists() else None

    click.echo(f"http://{host}:{port}/dashboard/studies/{first._study_id}  (Ctrl-C ends it)")
    optuna_dashboard.run_server(first._storage, host=host, port=port, artifact_store=store)
