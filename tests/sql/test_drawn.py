"""How much closer to a description its images are than their plain twins, summed when a wave is whole."""

import pytest

from mothlight.sql import open_audit

MADE = """
insert into label values ('fly', 0, 'plain');
insert into prompt values ('plain', 'fly', 'a fly.', ''), ('wet', 'fly', 'a fly. wet.', 'wet.');
insert into text_embedding values ('wet', [1.0, 0.0]);
insert into image select prompt || i, 'c', prompt, i // 5, i, 0.9, 1, 0, null
    from range(10) t(i), (values ('plain'), ('wet')) p(prompt);
insert into embedding select image_id, wave, if(prompt_id = 'wet', [0.1 * index, 0.5], [0.2, 0.5]) from image;
delete from embedding where image_id = 'plain9';
"""


def test_each_wave_adds_its_own_twins() -> None:
    with open_audit() as store:
        store.ask(MADE)
        for wave, closer in ((0, [-0.2, -0.1, 0.0, 0.1, 0.2]), (1, [0.3, 0.4, 0.5, 0.6])):
            store.step("new_drawn", wave=wave)
            counted = store.rows("select n, total, squares from drawn_count where wave = $wave", wave=wave)
            squares = sum(one * one for one in closer)
            assert counted == [pytest.approx((len(closer), sum(closer), squares), abs=1e-6)]
        ((n, closer_mean, low, not_drawn),) = store.rows("select n, closer, closer_low, not_drawn from drawn")
        assert (n, not_drawn) == (9, False)
        assert closer_mean == pytest.approx(0.2)
        assert low == pytest.approx(0.2 - 1.959964 * 0.2738613 / 3)


def test_without_descriptions_that_lie_anywhere_there_is_nothing_to_sum() -> None:
    with open_audit() as store:
        store.ask(MADE)
        store.rows("delete from text_embedding")
        store.step("new_drawn", wave=0)
        assert store.rows("from drawn_count") == []
