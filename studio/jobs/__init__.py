"""The queue of jobs: a durable table, one local worker, and one process for each attempt at a job.

``states`` holds the states and transitions, ``store`` the SQLite table (``schema``, ``rows``), ``request`` and
``intake`` take in a request and its uploads, ``worker`` runs one job at a time on each of the ``slots``, each in a
``child`` process with the variables of ``environment``, and ``events`` is the line format between the two. ``backup``
copies completed jobs to another address, ``forget`` deletes jobs wherever they are (``forgotten`` keeps what it has
begun and done), ``sweep`` is the clock, and ``here`` runs verbs without a job. Only ``studio.service`` and the web's
routes call this package. It imports neither torch nor gradio: verbs are strings until a child resolves them.
"""
