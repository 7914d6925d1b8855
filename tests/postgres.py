"""A PostgreSQL server of a test's own."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEBIAN = Path("/usr/lib/postgresql")


def binaries() -> Path | None:
    """Where PostgreSQL's programs are, if anywhere; Debian keeps them off the PATH."""
    if found := shutil.which("initdb"):
        return Path(found).parent
    versions = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda file: float(file.parts[-3]))
    return versions[-1].parent if versions else None


@contextmanager
def server(user: str = "postgres") -> Iterator[str]:
    """Start a server that only a Unix socket reaches; the URL of its database without a password.

    PostgreSQL refuses to run as root, so that root starts it as ``user``.
    """
    programs = binaries()
    assert programs is not None
    # The path of a socket may have 107 characters; pytest's own folders are longer.
    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp") as folder:
        as_user: list[str] = []
        if os.geteuid() == 0:
            account = pwd.getpwnam(user)
            os.chown(folder, account.pw_uid, account.pw_gid)
            as_user = ["setpriv", f"--reuid={user}", f"--regid={account.pw_gid}", "--clear-groups"]
        data = f"{folder}/data"

        def call(*arguments: str) -> None:
            subprocess.run(
                [*as_user, *arguments],
                cwd=folder,
                check=True,
                timeout=60,
                stdout=subprocess.DEVNULL,
            )

        call(
            f"{programs}/initdb", "-D", data, "-U", "lab", "-A", "trust", "--no-sync", "-E", "UTF8"
        )
        options = f"-k {folder} -c listen_addresses='' -c fsync=off -c max_connections=30"
        call(f"{programs}/pg_ctl", "-D", data, "-o", options, "-l", f"{folder}/log", "-w", "start")
        try:
            yield f"postgresql+psycopg://lab@/postgres?host={folder}"
        finally:
            call(f"{programs}/pg_ctl", "-D", data, "-m", "immediate", "stop")
