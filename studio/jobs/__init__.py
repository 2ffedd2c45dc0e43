"""Machinery that runs verbs by name: a durable table of jobs, one local worker, one child process per attempt.

``states`` is the rule book (data only), ``store`` the SQLite table behind it, ``intake`` copies uploads in,
``worker`` runs one job at a time on each of the ``slots`` in ``child`` processes, ``events`` is the line format
between the two.
Only ``studio.service`` calls this room. It imports neither torch nor gradio; verbs are strings until they
are resolved inside a child.
"""
