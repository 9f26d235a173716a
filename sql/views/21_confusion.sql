create or replace view confusion as
with plain as (
    select counted.*
    from counted
    join label on label.plain_prompt_id = counted.prompt_id
    where phase <> 'reserve' and passed
),
total as (
    select classifier, label, sum(images)::bigint as n from plain group by all
)
select
    plain.classifier,
    plain.label,
    plain.predicted,
    sum(plain.images)::bigint as failures,
    total.n,
    failures / total.n as rate,
    true_rate_low(wilson_low(failures, total.n), gate_error_of('plain')) as rate_low,
    true_rate_high(wilson_high(failures, total.n), gate_error_of('plain')) as rate_high
from plain
join total using (classifier, label)
where plain.wrong
group by plain.classifier, plain.label, plain.predicted, total.n;

comment on view confusion is 'Which labels are taken for which on plain prompts, of the images that pass the gate; 95 % Wilson intervals, widened by the gate''s error where that was measured.';
