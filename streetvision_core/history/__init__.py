"""What was made: listed, traced, compared, verified and cleared away, from the store alone.

Nothing here needs a Dagster instance, and nothing that is heavy is imported: each answer is for a person
who waits for it in a terminal. An answer has ``text()`` to read, ``facts()`` for ``--json``, and ``good``.
"""
