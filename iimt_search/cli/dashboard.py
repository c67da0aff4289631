"""``iimt-search dashboard``."""

import errno
import socket
from contextlib import suppress
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import click

from iimt_search.cli.options import which_options
from iimt_search.errors import UsageError
from iimt_search.study.open import open_study


class _Quiet(WSGIRequestHandler):
    """Serves without a line for each request."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class _Server(WSGIServer):
    """Binds before anything is said."""


def _free_port(host: str) -> int:
    with socket.socket(_Server.address_family) as found:
        found.bind((host, 0))
        port: int = found.getsockname()[1]
        return port


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
    import optuna_dashboard

    from iimt_search.dashboard.artifacts import artifact_store

    with open_study(**which) as opened:
        first = opened.studies[0]
        # The images lie in the study's folder, which a machine that only watches does not have.
        there = (opened.folder.path / "artifacts").is_dir() or not opened.read_only
        store = artifact_store(opened.folder) if opened.folder.description.exists() and there else None
        app = optuna_dashboard.wsgi(first._storage, artifact_store=store)
        _Server.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            server = make_server(host, port, app, _Server, _Quiet)
        except OSError as error:
            other = f"; --port {_free_port(host)} is free" if error.errno == errno.EADDRINUSE else ""
            raise UsageError(f"cannot serve on {host}:{port}: {error.strerror or error}{other}") from error
        where = f"[{host}]" if ":" in host else host
        click.echo(f"http://{where}:{port}/dashboard/studies/{first._study_id}  (Ctrl-C ends it)")
        with server, suppress(KeyboardInterrupt):
            server.serve_forever()
