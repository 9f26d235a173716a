"""Two audits side by side in one database in memory, to ask what they differ in."""

from mothlight.sql.store import LOCK_DOWN, Store, open_audit

DIFFERENCES = "differences"
"""The named query that asks of two audits."""
COMPARED = {
    "rates": "select * from plain_rate",
    "tested": "select * from findings",
}
"""What of each audit is laid beside the other's."""


def side_by_side(one: Store, other: Store) -> Store:
    """What two audits say, as tables `one_rates`, `other_rates`, `one_tested` and `other_tested`; to be closed.

    Raises:
        UserError: an audit does not answer.
    """
    both = open_audit()
    try:
        for name, statement in COMPARED.items():
            for side, store in (("one", one), ("other", other)):
                table = store.sql(statement).arrow
                both.connection.register("incoming", table)
                both.rows(f"create table {side}_{name} as from incoming")  # our names
                both.connection.unregister("incoming")
        _call_alike(both)
        both.connection.execute(LOCK_DOWN)
    except BaseException:
        both.close()
        raise
    return both


def _call_alike(both: Store) -> None:
    """Where each audit has one classifier, they are two versions of one, whatever they are called."""
    names = [
        [name for (name,) in both.rows(f"select distinct classifier from {side}_rates")]  # noqa: S608  # our names
        for side in ("one", "other")
    ]
    if len(names[0]) == len(names[1]) == 1:
        for table in ("other_rates", "other_tested"):
            both.rows(f"update {table} set classifier = $name", name=names[0][0])  # noqa: S608  # as above
