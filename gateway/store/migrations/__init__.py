"""Alembic's versions of the schema."""
