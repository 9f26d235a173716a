-- Every description that is tested on generated pairs, or on photographs ($tested_on), in the order of its birth.
select
    prompt.label, prompt.text, prompt.description,
    (
        select list({label: other.label, text: other.text} order by further_prompt.place)
        from further_prompt join prompt as other using (prompt_id)
        where further_prompt.hypothesis_id = hypothesis.hypothesis_id
    ) as others,
    event, hypothesis.place, score, origin, round, weight, born_wave, cluster_id, parent_id
from hypothesis
join prompt using (prompt_id)
join label on label.label = prompt.label
where (hypothesis.round in (select round from round where kind = 'photographs')) = ($tested_on = 'photographs')
order by round, label.place, hypothesis.place, hypothesis_id;
