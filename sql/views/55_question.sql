create or replace view question as
with tested as (
    select hypothesis_id, count(distinct wave) as waves from evidence group by hypothesis_id
),
strongest as (
    select * from findings
    qualify row_number() over (partition by hypothesis_id order by status = 'confirmed' desc, e_value desc, classifier) = 1
)
select
    hypothesis.label,
    hypothesis.description,
    coalesce(nullif(hypothesis.event, ''), 'any error') as predicted,
    hypothesis.origin,
    hypothesis.round,
    coalesce(tested.waves, 0) as waves,
    coalesce(strongest.status, case when audit.finished_budget is null then 'testing' else 'not confirmed' end) as status,
    coalesce(standing.reason, '') as reason,
    strongest.classifier,
    strongest.pairs,
    strongest.effect,
    strongest.effect_low,
    strongest.effect_high,
    strongest.e_value,
    hypothesis.score,
    coalesce(drawn.not_drawn, false) as not_drawn,
    hypothesis.hypothesis_id
from hypothesis
cross join audit
left join standing using (hypothesis_id)
left join tested using (hypothesis_id)
left join strongest using (hypothesis_id)
left join drawn on drawn.prompt_id = hypothesis.prompt_id;

comment on view question is 'Every description that was put to the test or waits for it, with the classifier that has the strongest evidence: how it stands, and why; `not_drawn` where its images do not show it (view `drawn`).';
