-- How much of what could be asked was asked.
with judged as (
    select count(*) as images, count(*) filter (image.gate_score >= audit.gate_upper) as passed
    from audit
    join image on true
)
select
    (select count(*) from hypothesis) as known,
    (select count(distinct hypothesis_id) from evidence) as tested,
    (select count(*) from question where waves = 0) as waiting,
    judged.images,
    judged.passed,
    wilson_low(judged.passed, judged.images) as low,
    wilson_high(judged.passed, judged.images) as high,
    (select quantile_disc(pairs, 0.5) from question where status <> 'confirmed' and pairs is not null) as typical_pairs,
    (select max(pairs) from findings where provenance = 'test waves') as most_pairs,
    (select max(weight) from round) as weight
from judged;
