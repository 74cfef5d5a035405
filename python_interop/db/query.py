"""Statements: one at a time, tried again while PostgreSQL is away."""
from db.config import answers_within, connect_to_db, translated

ANSWER_TIMEOUT_S = 30


class Database:
    """A connection that is made when it is needed, and made anew after any error. One for each run of the task."""

    def __init__(self, database_url):
        self._url = database_url
        self._connection = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.forget()

    @property
    def connection(self):
        if self._connection is None:
            self._connection = connect_to_db(self._url)
        return self._connection

    def forget(self):
        """Closes the connection, which rolls back whatever it was in the middle of."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def execute(self, what, sql, values=None, timeout_s=ANSWER_TIMEOUT_S):
        """The rows of one statement; every value is bound."""
        connection = self.connection
        try:
            with translated(what), answers_within(connection, timeout_s):
                cursor = connection.execute(sql, values)
                return cursor.fetchall() if cursor.description else []
        except BaseException:
            self.forget()
            raise


def execute_query(run, what, sql, values):
    """Runs one statement by itself; waits out what is transient within the run's budget."""
    return run.persist(lambda: run.database.execute(what, sql, values))
