"""What two audits differ in."""

import duckdb
import pytest

from mothlight.sql import Store, open_audit
from mothlight.sql.beside import side_by_side
from mothlight.sql.named import sql_text

MADE = """
insert into audit values ('a', 'one', 0, 'g', '{"min_effect": 0.05}', '', null, 0.1, 0.4, null, null, 1);
insert into label values ('fly', 0, 'plain'), ('bee', 1, 'plain bee');
insert into prompt values
    ('plain', 'fly', 'a fly.', ''), ('net', 'fly', 'a fly. net.', 'net.'), ('plain bee', 'bee', 'a bee.', '');
insert into wave values (0, 'discovery', 0, 'plain', 0, 100, 99), (1, 'test', 0, 'net', 100, 100, 99);
insert into outcome_count values
    ('plain', 0, 'c', 'bee', true, 0.9, WRONG), ('plain', 0, 'c', 'fly', false, 0.9, 100 - WRONG),
    ('plain bee', 0, 'c', 'bee', false, 0.9, 100);
insert into hypothesis values ('h', 'fly', 'net', '', 'net.', 0, 2.0, 'failures', 1, 0.6, 0, null, null);
insert into pair_count values ('h', 'c', 1, 100, 100, 60, 100, 10, 100, 50, 0, 60, 10);
insert into evidence values ('h', 'c', 1, 100, 50, 0, 99, 0.3, 0.7);
insert into decision values ('h', 'c', 'STATUS', 99, 0.01);
insert into standing values ('h', 'h', true, '');
"""


def audit(wrong: int, status: str) -> Store:
    store = open_audit()
    store.ask(MADE.replace("WRONG", str(wrong)).replace("STATUS", status))
    return store


def test_a_rate_and_a_finding_that_differ_stand_there_and_nothing_else() -> None:
    with audit(40, "confirmed") as one, audit(10, "testing") as other, side_by_side(one, other) as both:
        rows = both.records(sql_text("differences.sql"))
    assert [(row["what"], row["label"], row["here_status"], row["there_status"]) for row in rows] == [
        ("effect", "fly", "confirmed", "testing"),
        ("plain rate", "fly", "", ""),
    ]
    rate = rows[1]
    assert (rate["here"], rate["there"], rate["here_n"], rate["difference"]) == (0.4, 0.1, 100, pytest.approx(0.3))
    # Zou and Donner's interval out of two Wilson intervals, as Newcombe (1998), method 10, has it
    assert (rate["difference_low"], rate["difference_high"]) == (
        pytest.approx(0.18279, abs=1e-5),
        pytest.approx(0.40774, abs=1e-5),
    )


def test_an_audit_differs_in_nothing_from_itself() -> None:
    with audit(40, "confirmed") as one, side_by_side(one, one) as both:
        assert both.rows(sql_text("differences.sql")) == []


def test_what_lies_side_by_side_is_locked_down() -> None:
    with (
        audit(40, "confirmed") as one,
        side_by_side(one, one) as both,
        pytest.raises(duckdb.PermissionException, match="disabled"),
    ):
        both.rows("copy (select 1) to '/tmp/out.csv'")
