-- Every description, the strongest evidence first; `waves` is 0 where it was not tested.
select * from question order by e_value desc nulls last, score desc, label, description, predicted;
