-- How many images there are and pass the gate, and the largest share of the level that a test has.
with judged as (
    select count(*) as images, count(*) filter (image.gate_score >= audit.gate_upper) as passed
    from audit
    join image on true
)
select
    images,
    passed,
    wilson_low(passed, images) as low,
    wilson_high(passed, images) as high,
    (select max(weight) from round) as weight
from judged;
