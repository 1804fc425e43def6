"""The history of a store: its runs listed, traced, compared, verified and cleared away.

- `find`: the store, run or bundle that a name on the command line means
- `scan`: the contents of a store, by walking it
- `runs`, `lineage`, `diff` (with `paired`), `verify`: one module a command
- `gc`: the plan of a collection; `keep`: the artifacts that stay, and why; `remove`: the removal
- `text`: words, tables and the order of steps

Nothing here needs a Dagster instance, and nothing heavy is imported: each answer is for a person who waits
for it in a terminal. An answer has `text()` to read, `facts()` for `--json`, and `good`.
"""
