"""The schema as a page, from the comments in the database itself: `python -m mothlight.sql.schema > sql/SCHEMA.md`."""

import sys

from mothlight.sql.store import Store, open_audit

COLUMNS = """
    select column_name, data_type, comment from duckdb_columns()
    where table_name = $table and not internal order by column_index
"""


def schema_page(store: Store) -> str:
    """Views first, as that is what one asks; then each table with its columns."""
    lines = ["# The database", "", "Written by `make schema`; a test holds it to the SQL.", "", "## Views", ""]
    views = store.rows("select view_name, comment from duckdb_views() where not internal order by view_name")
    for name, comment in views:
        columns = ", ".join(f"`{column}`" for column, _, _ in store.rows(COLUMNS, table=name))
        lines += [f"**{name}**: {comment}", "", columns, ""]
    lines += ["## Tables", ""]
    tables = store.rows("select table_name, comment from duckdb_tables() where not internal order by table_name")
    for name, comment in tables:
        lines += [f"### {name}", "", comment, "", "| column | type | |", "| --- | --- | --- |"]
        lines += [f"| {column} | {kind} | {note} |" for column, kind, note in store.rows(COLUMNS, table=name)]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    with open_audit() as memory:
        sys.stdout.write(schema_page(memory))
