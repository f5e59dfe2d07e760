"""docs/cookbook.md: every query of queries/cookbook."""

from platonic_store.sql import cookbook

INTRODUCTION = """# Cookbook

Named queries, each a file of plain SQL in `queries/cookbook`.

```
platonic-store sql --list
platonic-store sql @near-duplicates --set within=0.001 --set model=chgnet-0.3.0
```

In Python: `store.sql("@near-duplicates", variables={"within": 0.001})`. By default `model` is the
store's first model, and `other` the next one that is not a control. To change a query, copy its
SQL: variables work in any query. In the plain `duckdb` client, which lacks `neighbours`, the
queries over views alone run after `SET VARIABLE`.

Made by `make docs`."""


def described(entry: cookbook.Entry) -> str:
    """An entry as Markdown."""
    variables = [
        f"- `{name}`: {one.meaning}" + (f". Default: `{one.default}`" if one.default else "")
        for name, one in entry.variables.items()
    ]
    needs = [f"- needs {need}" for need in entry.needs]
    body = "\n".join(line for line in entry.sql.splitlines() if not line.startswith("--"))
    parts = [f"## `@{entry.name}`", f"**{entry.title}.** {entry.text}"]
    parts += ["\n".join(variables + needs)] if variables or needs else []
    return "\n\n".join([*parts, f"```sql\n{body}\n```"])


def page() -> str:
    """The whole page."""
    return "\n\n".join([INTRODUCTION, *map(described, cookbook.entries())]) + "\n"
