"""Alembic's entry: runs revisions on the connection, and in the transaction, that the caller opened.

Called by whook.backplane.sql.schema through Alembic. It must never open a connection of its own.
"""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
