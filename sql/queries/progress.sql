-- How far an audit is: its wave, its budget, and what stands confirmed.
with last as (
    select wave, any_value(phase) as phase, sum(images) as planned, any_value(max_images) as budget
    from wave
    where wave = (select max(wave) from wave)
    group by wave
)
select
    audit.name,
    audit.ended,
    last.wave,
    last.phase,
    last.planned,
    (select coalesce(sum(images), 0) from chunk where chunk.wave = last.wave) as made,
    (select coalesce(sum(images), 0) from chunk) as images,
    coalesce((select max(max_images) from run), last.budget) as max_images,
    (select count(*) from caption) as captions,
    (select count(*) from round) as rounds,
    (select count(*) from failed_item) as failed,
    (select count(*) from decision where status = 'confirmed') as confirmed,
    (select count(distinct standing.bug) from standing
        join decision using (hypothesis_id) where status = 'confirmed') as bugs
from audit
left join last on true;
