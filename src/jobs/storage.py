"""Where a study is kept: a file beside it, or a database that several machines reach."""

import hashlib
import random
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from src.utils.errors import UserError

JOURNAL = "study.journal"
CONNECT = 10  # seconds after which a database that does not answer is given up
PASSWORD = re.compile(r"://[^/@:]*:([^/]*)@|[?&]password=([^&]*)")
# Of this process's threads one looks for a trial at a time, so that the others hold no connection while they wait.
_ONE_THREAD = threading.Lock()


def check_no_password(storage: Any) -> None:
    """Refuse a password in clear, because Hydra writes the storage's URL into every run of the study.

    Args:
        storage: the setting as it was given, with its interpolations unresolved.

    Raises:
        UserError: there is one.
    """
    found = PASSWORD.search(str(storage or ""))
    secret = found and (found[1] or found[2])
    if secret and "${" not in secret:
        raise UserError(
            f"hydra.sweeper.storage={masked(str(storage))} holds a password, which every run's .hydra/ would keep; "
            "write ${oc.env:NAME} in its place, or leave it out and set PGPASSWORD or ~/.pgpass (PostgreSQL)"
        )


def masked(url: str) -> str:
    """``url`` without its password, to be shown or kept."""
    return PASSWORD.sub(lambda hit: hit[0].replace(hit[1] or hit[2] or "\0", "***"), url)


def shown(url: str | None, directory: Path) -> str:
    """The storage as ``optuna-dashboard`` takes it, without its password."""
    return masked(url) if url else str(directory / JOURNAL)


def open_storage(url: str | None, directory: Path) -> Any:
    """Optuna's storage for ``hydra.sweeper.storage``.

    Args:
        url: of a database (``sqlite:///…``, ``postgresql+psycopg://…``, ``mysql+pymysql://…``), the path of a journal
            file, or None for the one in ``directory``.
        directory: of the study.

    Raises:
        UserError: it cannot be reached, or its driver is missing.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    if url and "://" in url:
        return _open_database(url)
    file = Path(url) if url else directory / JOURNAL
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(file)))
    except OSError as error:
        raise UserError(f"the study's file {file} cannot be opened: {error.strerror}") from error


def _open_database(url: str) -> Any:
    from sqlalchemy import exc

    where = f"hydra.sweeper.storage={masked(url)}"
    for attempt in range(5):
        try:
            return _connect(url)
        except ImportError as error:
            raise UserError(
                f"{where} needs a driver that is not installed: pip install -c constraints.txt -e .[sweeps]"
            ) from error
        except (exc.ArgumentError, ValueError) as error:  # no URL, or of an unknown database
            raise UserError(
                f"{where} is no database that can be used ({first_line(error)}); "
                "choices: sqlite:///…, postgresql+psycopg://…, mysql+pymysql://…"
            ) from error
        except exc.OperationalError as error:
            # SQLite says so too where another worker has just made the tables.
            if attempt == 4 or "already exists" not in str(error):
                raise UserError(f"{where} cannot be reached: {first_line(error)}") from error
        except (exc.IntegrityError, exc.ProgrammingError) as error:
            # Two workers that start together make the tables of an empty database at the same time.
            if attempt == 4:
                raise UserError(f"{where} cannot be used: {first_line(error)}") from error
        time.sleep(0.2 + random.random())
    raise AssertionError("the last attempt returns or raises")


def _connect(url: str) -> Any:
    from optuna.storages import RDBStorage

    timeout = "timeout" if url.startswith("sqlite") else "connect_timeout"
    seconds = 60 if url.startswith("sqlite") else CONNECT  # SQLite waits for other writers
    return RDBStorage(
        url, engine_kwargs={"pool_pre_ping": True, "connect_args": {timeout: seconds}}
    )


def first_line(error: Exception) -> str:
    """What an error says first, without a password."""
    cause = getattr(error, "orig", None) or error
    return (
        masked(str(cause).strip().splitlines()[0]) if str(cause).strip() else type(cause).__name__
    )


def storage_errors(url: str | None) -> tuple[type[Exception], ...]:
    """What the storage at ``url`` raises when it was reached before and is not any more."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import DBAPIError

    if url and "://" in url:
        return (StorageInternalError, DBAPIError)
    return (OSError,)


def quiet_optuna() -> None:
    """Leave Optuna's messages to Hydra's handlers, and out what this sweeper says itself."""
    import warnings

    import optuna

    optuna.logging.disable_default_handler()
    optuna.logging.enable_propagation()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


@contextmanager
def claiming(storage: Any, url: str | None, directory: Path, study: str) -> Iterator[None]:
    """Held by one worker of a study at a time, while it looks for its next trial.

    Optuna numbers trials without a limit; only under a lock can a worker first count them and then add one. The
    database keeps the lock, the operating system that of a file; both free it when its owner is gone.
    """
    with _ONE_THREAD, _locked(storage, url, directory, study):
        yield


@contextmanager
def _locked(storage: Any, url: str | None, directory: Path, study: str) -> Iterator[None]:
    from filelock import FileLock

    if url and "://" in url and not url.startswith("sqlite"):
        with storage.engine.connect() as connection:
            _advisory(connection, study, take=True)
            try:
                yield
            finally:
                _advisory(connection, study, take=False)
        return
    with FileLock(_lock_file(storage, url, directory)):
        yield


def _lock_file(storage: Any, url: str | None, directory: Path) -> Path:
    if url and "://" in url:
        database = storage.engine.url.database
        return Path(f"{database}.claim") if database else directory / "study.claim"
    return Path(f"{url or directory / JOURNAL}.claim")


def _advisory(connection: Any, study: str, take: bool) -> None:
    from sqlalchemy import text

    digest = hashlib.sha256(f"latent-lab {study}".encode()).digest()
    if connection.dialect.name == "postgresql":
        call = "pg_advisory_lock" if take else "pg_advisory_unlock"
        key: Any = int.from_bytes(digest[:8], "big", signed=True)
        connection.execute(text(f"SELECT {call}(:key)"), {"key": key})
    else:
        # The longest name that MySQL allows has 64 characters.
        call, key = ("GET_LOCK(:key, 600)" if take else "RELEASE_LOCK(:key)"), digest.hex()[:60]
        while connection.execute(text(f"SELECT {call}"), {"key": key}).scalar() != 1 and take:
            continue  # somebody has held it for ten minutes
