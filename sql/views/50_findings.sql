create or replace view findings as
with last_reserve as (
    select hypothesis_id, max(wave) as wave
    from hypothesis join wave using (prompt_id)
    where phase = 'reserve'
    group by hypothesis_id
),
last_test as (
    select hypothesis_id, max(wave) as wave from evidence group by hypothesis_id
),
used as (
    -- a confirmed finding is reported from the reserve after its own last test wave, everything else from its test waves
    select pair.*, pair.phase = 'reserve' as reserved
    from pair
    left join last_reserve on last_reserve.hypothesis_id = pair.hypothesis_id and last_reserve.wave = pair.wave
    left join evidence on evidence.hypothesis_id = pair.hypothesis_id
        and evidence.classifier = pair.classifier and evidence.wave = pair.wave
    join last_test on last_test.hypothesis_id = pair.hypothesis_id
    where (pair.phase = 'test' and evidence.wave is not null)
        or (pair.phase = 'reserve' and last_reserve.wave > last_test.wave)
),
counted as (
    select
        hypothesis_id,
        classifier,
        reserved,
        count(*) as images,
        count(*) filter (passed) as n,
        count(*) filter (passed and event) as failures,
        count(*) filter (plain_passed) as baseline_n,
        count(*) filter (plain_passed and plain_event) as baseline_failures,
        count(*) filter (both_passed) as pairs,
        count(*) filter (both_passed and event and not plain_event) as more,
        count(*) filter (both_passed and plain_event and not event) as less,
        count(*) filter (event) as failures_without_gate,
        count(*) filter (plain_event) as baseline_failures_without_gate
    from used
    group by all
),
chosen as (
    select latest_decision.status, latest_decision.e_value, latest_decision.q_value, latest_decision.reason, counted.*
    from latest_decision
    join counted using (hypothesis_id, classifier)
    where counted.reserved = false or latest_decision.status = 'confirmed'
    qualify row_number() over (partition by hypothesis_id, classifier order by counted.reserved desc) = 1
)
select
    case when chosen.status = 'confirmed' then row_number() over (
        order by
            chosen.status = 'confirmed' desc,
            (chosen.more - chosen.less) / nullif(chosen.pairs, 0) desc,
            chosen.classifier,
            hypothesis.label,
            hypothesis.description,
            hypothesis.hypothesis_id
    ) end as finding,
    chosen.classifier,
    hypothesis.label,
    coalesce(nullif(hypothesis.event, ''), 'any error') as predicted,
    hypothesis.description,
    prompt.text as prompt,
    chosen.status,
    chosen.n,
    chosen.failures,
    chosen.failures / nullif(chosen.n, 0) as rate,
    wilson_low(chosen.failures, chosen.n) as rate_low,
    wilson_high(chosen.failures, chosen.n) as rate_high,
    chosen.baseline_n,
    chosen.baseline_failures,
    chosen.baseline_failures / nullif(chosen.baseline_n, 0) as baseline_rate,
    wilson_low(chosen.baseline_failures, chosen.baseline_n) as baseline_low,
    wilson_high(chosen.baseline_failures, chosen.baseline_n) as baseline_high,
    (chosen.more - chosen.less) / nullif(chosen.pairs, 0) as effect,
    bonett_price_low(chosen.more, chosen.less, chosen.pairs) as effect_low,
    bonett_price_high(chosen.more, chosen.less, chosen.pairs) as effect_high,
    chosen.pairs,
    chosen.more,
    chosen.less,
    chosen.pairs / chosen.images as pair_pass_rate,
    chosen.failures_without_gate / chosen.images as rate_without_gate,
    chosen.baseline_failures_without_gate / chosen.images as baseline_rate_without_gate,
    chosen.n / chosen.images as gate_pass_rate,
    chosen.pairs < chosen.images / 2 as gate_limited,
    chosen.e_value,
    chosen.q_value,
    chosen.reason,
    not chosen.reserved as selected,
    case when chosen.reserved then 'reserve' else 'test waves' end as provenance,
    hypothesis.cluster_id,
    hypothesis.parent_id,
    hypothesis.hypothesis_id,
    hypothesis.prompt_id
from chosen
join hypothesis using (hypothesis_id)
join prompt on prompt.prompt_id = hypothesis.prompt_id;

comment on view findings is 'One row per description and classifier: status, rates with 95 % intervals, paired effect over the plain prompt, evidence. Confirmed ones are numbered in `finding`, the largest effect first. A confirmed row''s rates come from the reserve unless it says selected.';
