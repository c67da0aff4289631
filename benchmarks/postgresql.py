"""A PostgreSQL server of its own in a temporary folder, for benchmarks and tests."""

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

OWNER, DATABASE = "owner", "postgres"
PASSWORD = "pass word@%"  # needs quoting in a URL, so that quoting is tried too
# PostgreSQL refuses to run as root.
_UNPRIVILEGED = "nobody"


class NoServerError(Exception):
    """No PostgreSQL server can be started here; says why."""


def _find(binary: str) -> Path:
    """Return a server binary; distributions keep them off the PATH."""
    found = shutil.which(binary)
    packaged = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{binary}"))
    if found is None and not packaged:
        raise NoServerError(f"there is no {binary}: PostgreSQL's server is not installed")
    return Path(found) if found else packaged[-1]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class PostgreSQL:
    """A server on loopback that asks everyone for a password.

    Args:
        folder: empty, and reachable by the unprivileged user where this process is root.
        durable: False leaves out waiting for the disk, which tests need not do.

    Raises:
        NoServerError: there is no server, or it does not start.
    """

    def __init__(self, folder: Path, durable: bool = True) -> None:
        self._data, self._pg_ctl = folder / "data", _find("pg_ctl")
        self.port = _free_port()
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            try:
                entry = pwd.getpwnam(_UNPRIVILEGED)
            except KeyError as error:
                raise NoServerError(
                    f"PostgreSQL does not run as root, and there is no {_UNPRIVILEGED}"
                ) from error
            self._user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            os.chown(folder, entry.pw_uid, entry.pw_gid)
        password = folder / "password"
        password.write_text(PASSWORD + "\n")
        if self._user:
            os.chown(password, self._user["user"], self._user["group"])
        self._run(
            _find("initdb"), "-D", self._data, "-U", OWNER, f"--pwfile={password}", "--auth=scram-sha-256",
            "--encoding=UTF8", "--locale=C", "--no-sync",
        )  # fmt: skip
        options = f"-c listen_addresses=127.0.0.1 -p {self.port} -c unix_socket_directories='{folder}'"
        self._options = options + ("" if durable else " -c fsync=off")
        self._log = folder / "log"
        self.start()

    def _run(self, *command: str | Path) -> None:
        words = [str(word) for word in command]
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
        done = subprocess.run(words, cwd="/", **pipes, **self._user)
        if done.returncode:
            raise NoServerError(f"{command[0]} failed: {done.stderr.strip() or done.stdout.strip()}")

    def start(self) -> None:
        """Start the server and wait for it."""
        # With a log file pg_ctl hands its standard output to nobody, or it would never be seen to end.
        self._run(self._pg_ctl, "-D", self._data, "-l", self._log, "-o", self._options, "-w", "start")

    def stop(self) -> None:
        """End every session and the server."""
        self._run(self._pg_ctl, "-D", self._data, "-m", "fast", "-w", "stop")

    def restart(self) -> None:
        """Stop and start it again, on the same port."""
        self._run(
            self._pg_ctl,
            "-D",
            self._data,
            "-l",
            self._log,
            "-o",
            self._options,
            "-m",
            "fast",
            "-w",
            "restart",
        )

    @property
    def url(self) -> str:
        """The database's URL, without the password."""
        return f"postgresql+psycopg://{OWNER}@127.0.0.1:{self.port}/{DATABASE}"


@contextmanager
def postgresql(durable: bool = True) -> Iterator[PostgreSQL]:
    """Run a server in a temporary folder.

    Raises:
        NoServerError: none can be started.
    """
    folder = Path(mkdtemp(prefix="iimt-pg-"))
    try:
        server = PostgreSQL(folder, durable)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
