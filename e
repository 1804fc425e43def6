/work/main/.venv/lib/python3.11/site-packages/click/core.py:911: SupersessionWarning: Function `definitions_validate_command` is superseded and its usage is discouraged. Use 'dg check defs' instead.
  return callback(*args, **kwargs)
