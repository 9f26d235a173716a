create or replace view gate_pass as
with counted as (
    select prompt.label, count(*) as images, count(*) filter (image.gate_score >= audit.gate_upper) as passed
    from image
    join prompt using (prompt_id)
    cross join audit
    join label on label.plain_prompt_id = prompt.prompt_id
    group by prompt.label
)
select
    label,
    images,
    passed,
    passed / images as rate,
    wilson_low(passed, images) as rate_low,
    wilson_high(passed, images) as rate_high,
    wilson_high(passed, images) < 0.5 as few
from counted;

comment on view gate_pass is 'How many images of each label''s plain prompt pass the gate, with a 95 % Wilson interval; few where it lies below a half. Only what passes is judged.';
