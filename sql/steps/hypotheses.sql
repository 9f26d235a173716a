-- Every description under test, in the order of its birth.
select
    prompt.label, prompt.text, prompt.description,
    event, hypothesis.place, score, origin, round, weight, born_wave, cluster_id, parent_id
from hypothesis
join prompt using (prompt_id)
join label on label.label = hypothesis.label
order by round, label.place, hypothesis.place, hypothesis_id;
