"""The queue of jobs: a durable table, one local worker, and one process for each attempt at a job.

``states`` holds the states and transitions, ``store`` the SQLite table (``schema``, ``rows``), ``request`` and
``intake`` take in a request and its uploads, ``worker`` runs one job at a time on each of the ``slots``, each in a
``child`` process with the variables of ``environment``, and ``events`` is the line format between the two. ``backup``
copies completed jobs to another address. Only ``studio.service`` calls this package. It imports neither torch nor
gradio: verbs are strings until a child resolves them.
"""
