"""The schema as a page, from the comments in the database itself: `python -m mothlight.sql.schema > sql/SCHEMA.md`."""

import sys

from mothlight.sql.store import Store, open_audit

COLUMNS = """
    select column_name, data_type, comment from duckdb_columns()
    where table_name = $table and not internal order by column_index
"""


def schema_page(store: Store) -> str:
    """Views first, as that is what one asks; then how the tables hang together, and each with its columns."""
    lines = ["# The database", "", "Written by `make schema`; a test holds it to the SQL.", "", "## Views", ""]
    views = store.rows("select view_name, comment from duckdb_views() where not internal order by view_name")
    for name, comment in views:
        columns = ", ".join(f"`{column}`" for column, _, _ in store.rows(COLUMNS, table=name))
        lines += [f"**{name}**: {comment}", "", columns, ""]
    lines += ["## Tables", "", "```mermaid", "erDiagram", *_relations(store), "```", ""]
    tables = store.rows("select table_name, comment from duckdb_tables() where not internal order by table_name")
    for name, comment in tables:
        lines += [f"### {name}", "", comment, "", "| column | type | |", "| --- | --- | --- |"]
        lines += [f"| {column} | {kind} | {note} |" for column, kind, note in store.rows(COLUMNS, table=name)]
        lines.append("")
    return "\n".join(lines)


def _relations(store: Store) -> list[str]:
    """A line of a diagram for each column that names a row of another table: `image_id` one of `image`."""
    columns = store.rows("""
        select table_name, column_name from duckdb_columns() join duckdb_tables() using (table_name)
        where not duckdb_columns.internal order by table_name, column_index
    """)
    first: dict[str, str] = dict(reversed(columns))
    owners = {column: table for table, column in first.items() if column in (table, f"{table}_id")}
    return [
        f"    {owners[column]} ||--o{{ {table} : {column}"
        for table, column in columns
        if column in owners and owners[column] != table
    ]


if __name__ == "__main__":
    with open_audit() as memory:
        sys.stdout.write(schema_page(memory))
