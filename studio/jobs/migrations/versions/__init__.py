"""One file for each version of the tables; its number is that of ``PRAGMA user_version`` in SQLite, too."""
