"""Runs the migrations on the connection that `agpis.database.migrate` hands over, inside its transaction.

A new migration is a file in versions/: copy the last one, count `revision` up, write `upgrade()` for both databases,
and set `agpis.schema.VERSION`. A migration that was released is never changed; it does not import `agpis.schema`, which
is always that of today. There is no way down: keep a copy of the database.
"""

from alembic import context

from agpis.schema import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
context.run_migrations()
