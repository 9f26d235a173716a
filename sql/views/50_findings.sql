create or replace view findings as
with whole as (
    -- a description of several labels has a reserve when each of them has
    select hypothesis_id
    from hypothesis_prompt
    group by hypothesis_id
    having bool_and(prompt_id in (select prompt_id from wave where phase = 'reserve'))
),
summed as (
    -- the reserve is fresh whenever it was made: none of its pairs ever counts as evidence
    select
        hypothesis_id,
        classifier,
        phase = 'reserve' as reserved,
        sum(images)::bigint as images,
        sum(n)::bigint as n,
        sum(failures)::bigint as failures,
        sum(baseline_n)::bigint as baseline_n,
        sum(baseline_failures)::bigint as baseline_failures,
        sum(pairs)::bigint as pairs,
        sum(more)::bigint as more,
        sum(less)::bigint as less,
        sum(failures_without_gate)::bigint as failures_without_gate,
        sum(baseline_failures_without_gate)::bigint as baseline_failures_without_gate
    from pair_count
    join phase using (wave)
    where phase <> 'reserve' or hypothesis_id in (select hypothesis_id from whole)
    group by all
    having sum(images) > 0
),
bounds as (
    select hypothesis_id, classifier, arg_max(low, wave) as low, arg_max(high, wave) as high
    from evidence
    group by all
),
chosen as (
    select
        decision.status, decision.e_value, decision.q_value, standing.reason, standing.bug, summed.*,
        (summed.more - summed.less) / nullif(summed.pairs, 0) as effect,
        hypothesis.label, hypothesis.event, hypothesis.description, hypothesis.prompt_id, hypothesis.origin,
        hypothesis.round, hypothesis.cluster_id, hypothesis.parent_id, bounds.low, bounds.high,
        case
            when hypothesis.round in (select round from round where kind = 'photographs') then 'photographs' else 'generated'
        end as tested_on
    from decision
    join standing using (hypothesis_id)
    join hypothesis using (hypothesis_id)
    join summed using (hypothesis_id, classifier)
    left join bounds using (hypothesis_id, classifier)
    where summed.reserved = false or decision.status = 'confirmed'
    qualify row_number() over (partition by hypothesis_id, classifier order by summed.reserved desc) = 1
),
strongest as (
    select
        *,
        gate_error_of('described') as own_error,
        gate_error_of('plain') as plain_error,
        case when reserved then bonett_price_low(more, less, pairs) else coalesce(low, bonett_price_low(more, less, pairs)) end as sampled_low,
        case when reserved then bonett_price_high(more, less, pairs) else coalesce(high, bonett_price_high(more, less, pairs)) end as sampled_high,
        max(case when status = 'confirmed' then effect end) over (partition by bug) as largest
    from chosen
),
ranked as (
    select
        *,
        case when status = 'confirmed' then row_number() over (
            order by status = 'confirmed' desc, effect desc, classifier, label, description, hypothesis_id
        ) end as finding,
        -- of a bug's wordings that have four fifths of its effect the one of most labels, then the shortest, stands for it
        case when status = 'confirmed' then row_number() over (
            partition by bug, status = 'confirmed'
            order by
                effect < 0.8 * largest,
                (select count(*) from hypothesis_prompt as own where own.hypothesis_id = strongest.hypothesis_id) desc,
                len(string_split(description, ' ')), effect desc, classifier, hypothesis_id
        ) = 1 end as main
    from strongest
),
told as (
    select
        finding,
        classifier,
        ranked.label,
        (select list(own.label order by own.place) from hypothesis_prompt as own where own.hypothesis_id = ranked.hypothesis_id) as labels,
        coalesce(nullif(event, ''), 'any error') as predicted,
        ranked.description,
        prompt.text as prompt,
        status,
        n,
        failures,
        failures / nullif(n, 0) as rate,
        true_rate_low(wilson_low(failures, n), own_error) as rate_low,
        true_rate_high(wilson_high(failures, n), own_error) as rate_high,
        baseline_n,
        baseline_failures,
        baseline_failures / nullif(baseline_n, 0) as baseline_rate,
        true_rate_low(wilson_low(baseline_failures, baseline_n), plain_error) as baseline_low,
        true_rate_high(wilson_high(baseline_failures, baseline_n), plain_error) as baseline_high,
        effect,
        true_effect_low(sampled_low, own_error + plain_error) as effect_low,
        true_effect_high(sampled_high, own_error + plain_error) as effect_high,
        pairs,
        more,
        less,
        case when tested_on = 'generated' then pairs / images end as pair_pass_rate,
        case when tested_on = 'generated' then failures_without_gate / images end as rate_without_gate,
        case when tested_on = 'generated' then baseline_failures_without_gate / images end as baseline_rate_without_gate,
        case when tested_on = 'generated' then n / images end as gate_pass_rate,
        tested_on = 'generated' and pairs < images / 2 as gate_limited,
        sampled_low > min_effect and true_effect_low(sampled_low, own_error + plain_error) <= min_effect as gate_could_explain,
        e_value,
        q_value,
        reason,
        not reserved as selected,
        case when tested_on = 'photographs' then 'photographs' when reserved then 'reserve' else 'test waves' end as provenance,
        case when finding is not null then min(finding) over (partition by bug) end as bug,
        main,
        origin,
        round,
        cluster_id,
        parent_id,
        hypothesis_id,
        prompt_id,
        event,
        tested_on
    from ranked
    join prompt using (prompt_id)
    cross join (select (settings ->> 'min_effect')::double as min_effect from audit)
)
select
    told.* exclude (event),
    case
        when told.finding is null then null
        when twin.status = 'confirmed' then 'both'
        else told.tested_on
    end as proved_on,
    twin.status as twin_status,
    twin.n as twin_n,
    twin.failures as twin_failures,
    twin.rate as twin_rate,
    twin.rate_low as twin_rate_low,
    twin.rate_high as twin_rate_high,
    twin.baseline_n as twin_baseline_n,
    twin.baseline_failures as twin_baseline_failures,
    twin.baseline_rate as twin_baseline_rate,
    twin.baseline_low as twin_baseline_low,
    twin.baseline_high as twin_baseline_high,
    twin.pairs as twin_pairs,
    twin.effect as twin_effect,
    twin.effect_low as twin_effect_low,
    twin.effect_high as twin_effect_high
from told
left join told as twin
    on twin.prompt_id = told.prompt_id
    and twin.event = told.event
    and twin.classifier = told.classifier
    and twin.tested_on <> told.tested_on
    and not contains(told.label, ', ');

comment on view findings is 'One row per description and classifier that was tested: status, rates with 95 % intervals, paired effect over the plain prompt, evidence. Confirmed ones are numbered in `finding`, the largest effect first; those with the same `bug` are wordings and classifiers of one, and `main` is the one that stands for it. A confirmed row''s rates come from the reserve unless it says selected; the effect''s interval of all others holds after every wave at once (a confidence sequence). Where the gate''s error was measured, every interval is widened by it, and `gate_could_explain` says whether it alone could make up the effect. `tested_on` says whether its pairs are generated or photographs, `proved_on` where a confirmed one is (`both`, if its twin is too), and `twin_…` what the same description and event came to on the others.';
