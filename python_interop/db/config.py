"""How to connect to PostgreSQL, and what an error of it means.

Every wait has a limit, so that neither side holds anything for long when the other has vanished without a word.
"""
import os
import socket
import threading
from contextlib import contextmanager

import psycopg
from psycopg.rows import namedtuple_row

from errors import DeploymentError, Outage, RefusedRows, Unexpected

CONNECT_TIMEOUT_S = 3

# The highest number in migrations/ that this program was written for. It never runs them: `celeriac db migrate` does.
NEEDED_VERSION = 3

# Short: whoever waits goes on waiting with back-off. 20 s for a lock is less than the 30 s after which the answer is given up.
_SESSION = """
    set lock_timeout = '20s'; set idle_in_transaction_session_timeout = '60s';
    set tcp_keepalives_idle = 10; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 3;
    set tcp_user_timeout = 30000
"""

_MIGRATE = "have the migrations run ('celeriac db migrate'), and may this user write the tables?"


def connect_to_db(database_url):
    """A new connection, outside of any transaction, with the tables there. An empty URL: libpq's PG* variables."""
    if database_url and not database_url.startswith(("postgres://", "postgresql://")):
        raise _no_url()
    with translated("cannot connect to PostgreSQL"):
        connection = _connect(database_url)
    try:
        with translated("cannot read the version of the tables"), answers_within(connection, 30):
            connection.execute(_SESSION)
            _check_version(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(database_url):
    try:
        return psycopg.connect(
            database_url,
            autocommit=True,
            row_factory=namedtuple_row,
            connect_timeout=CONNECT_TIMEOUT_S,
            application_name="celeriac-twin",
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            tcp_user_timeout=30_000,
        )
    except psycopg.ProgrammingError:
        # Its text would show the URL, and with it a password.
        raise _no_url() from None


def _no_url():
    return DeploymentError(
        "DATABASE_URL is not a PostgreSQL URL such as postgres://user:password@host:5432/database"
    )


def _check_version(connection):
    row = connection.execute("select coalesce(max(version), 0) as version from _sqlx_migrations where success").fetchone()
    if row.version < NEEDED_VERSION:
        raise DeploymentError(
            f"the tables are at version {row.version}, this worker needs {NEEDED_VERSION}; run 'celeriac db migrate'"
        )


@contextmanager
def answers_within(connection, seconds):
    """Cuts the connection when the server has not answered all that is asked in here; that shows as an outage.

    libpq has no such limit, and a server (or what stands between) that keeps the line open would hold us for ever.
    """
    timer = threading.Timer(seconds, _cut, [connection])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _cut(connection):
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)
    except (OSError, psycopg.Error):
        # It has ended by itself in this moment.
        return


@contextmanager
def translated(what):
    """Errors of PostgreSQL, or of the way to it, by what they mean for us."""
    try:
        yield
    except psycopg.Error as error:
        raise _meaning(what, error) from error


def _meaning(what, error):
    state = error.sqlstate
    if state is None:
        # No answer at all: refused, broken, timed out. libpq does not say the SQLSTATE of a login that was refused; so
        # a wrong password is waited for as an outage, and its text says what is wrong.
        is_line = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        return Outage(f"{what}: {error}") if is_line else Unexpected(f"{what}: {error}")
    place = f" ({error.diag.context})" if error.diag.context else ""
    cause = f"{what}: {error.diag.message_primary or error} [{state}]{place}"
    match sqlstate_meaning(state):
        case "outage":
            return Outage(cause)
        case "deployment":
            return DeploymentError(f"{cause}; {_MIGRATE}")
        case "rows":
            return RefusedRows(f"{error.diag.message_primary} [{state}]{place}")
    return Unexpected(cause)


def sqlstate_meaning(state):
    """`outage`, `deployment`, `rows` or `defect` (docs/ingest-rules.md, "Outages"; PostgreSQL's Appendix A)."""
    if state in ("25006", "55P03", "55006", "57014") or state[:2] in ("08", "40", "53", "57", "58", "XX"):
        return "outage"
    if state[:2] in ("28", "3D", "3F", "42", "55"):
        return "deployment"
    return "rows" if state[:2] in ("22", "23") else "defect"
