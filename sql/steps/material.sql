-- What the captioned images of a label, of some phases, show and what each classifier made of them; `weight` says how many
-- images of the same prompt that no classifier failed on each captioned one of these stands for.
with judged as (
    select image_id, prompt_id, bool_or(verdict = 'failure') as failed
    from outcome
    where passed and label = $label and phase in (select unnest($phases::varchar[]))
    group by all
),
sampled as (
    select
        judged.*,
        caption.text,
        count(*) filter (not failed) over (partition by judged.prompt_id)
            / nullif(count(caption.text) filter (not failed) over (partition by judged.prompt_id), 0) as weight
    from judged
    left join caption using (image_id)
)
select
    outcome.image_id,
    outcome.description,
    sampled.text,
    outcome.classifier,
    outcome.predicted,
    outcome.verdict = 'failure' as failed,
    case when sampled.failed then 1 else sampled.weight end as weight
from outcome
join sampled using (image_id)
where sampled.text is not null
order by outcome.prompt_id, outcome.index, outcome.classifier;
