"""Alembic's environment: the connection (and its transaction) come from ``worklist.schema``."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=context.config.attributes.get("target_metadata"),
    transactional_ddl=True,
)
context.run_migrations()
