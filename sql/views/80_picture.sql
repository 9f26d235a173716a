create or replace view picture as
with judged as (
    select
        image_id,
        any_value(label) as label,
        any_value(description) as description,
        any_value(phase) as phase,
        any_value(wave) as wave,
        any_value(index) as index,
        any_value(gate_score) as gate_score,
        any_value(passed) as passed,
        count(*) as classifiers,
        count(*) filter (verdict = 'failure') as failures,
        map_from_entries(list({k: classifier, v: predicted} order by classifier)) as predicted
    from outcome
    group by image_id
)
select judged.*, caption.text as caption
from judged
left join caption using (image_id);

comment on view picture is 'One row per image: what was asked for, the gate''s score, what each classifier said, and the caption where there is one.';
