"""The store: SQL is the truth. One schema and one set of statements for SQLite and PostgreSQL."""
