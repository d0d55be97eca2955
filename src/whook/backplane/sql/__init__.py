"""The stores in SQL: SQLAlchemy Core in worker threads, one database for each service that has one.

The composition root opens a database, builds the store on it and hands the store to the service. This folder
alone imports sqlalchemy, psycopg and alembic; psycopg only for a PostgreSQL, alembic only when there is
something to migrate.
"""

from whook.backplane.sql.auth import SqlAuthStore
from whook.backplane.sql.bodies import SqlBlobs
from whook.backplane.sql.database import Database, check_url, migrate_database, open_database
from whook.backplane.sql.history import SqlHistory
from whook.backplane.sql.projects import SqlProjects
from whook.backplane.sql.queue import SqliteQueue, check_queue_url, open_sqlite_queue
from whook.backplane.sql.schema import AUTH, CONDUCTOR, QUEUE, Schema, SchemaRefused
from whook.backplane.sql.sqlite import sqlite_url

__all__ = [
    "AUTH",
    "CONDUCTOR",
    "QUEUE",
    "Database",
    "Schema",
    "SchemaRefused",
    "SqlAuthStore",
    "SqlBlobs",
    "SqlHistory",
    "SqlProjects",
    "SqliteQueue",
    "check_queue_url",
    "check_url",
    "migrate_database",
    "open_database",
    "open_sqlite_queue",
    "sqlite_url",
]
