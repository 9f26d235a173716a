-- Every classifier on each confirmed description, with its rates of any error, by the accepted set and strictly.
with shown as (
    select * from findings
    where hypothesis_id in (select hypothesis_id from findings where status = 'confirmed')
),
asked as (
    select
        shown.hypothesis_id, shown.classifier, shown.selected, hypothesis.born_wave, own.prompt_id, label.plain_prompt_id
    from shown
    join hypothesis using (hypothesis_id)
    join hypothesis_prompt as own using (hypothesis_id)
    join label on label.label = own.label
),
described as (
    select
        asked.hypothesis_id, asked.classifier,
        sum(images) as n,
        sum(images) filter (wrong) as wrong,
        sum(images) filter (strictly_wrong) as strictly_wrong
    from asked
    join counted on counted.prompt_id = asked.prompt_id and counted.classifier = asked.classifier
    where passed and counted.wave > asked.born_wave and (counted.phase <> 'reserve') = asked.selected
    group by all
),
plain as (
    select
        asked.hypothesis_id, asked.classifier,
        sum(images) as n,
        sum(images) filter (wrong) as wrong,
        sum(images) filter (strictly_wrong) as strictly_wrong
    from asked
    join counted on counted.prompt_id = asked.plain_prompt_id and counted.classifier = asked.classifier
    where passed
        and (counted.phase <> 'reserve') = asked.selected
        -- the waves in which the description was asked too
        and exists (
            select 1 from wave
            where wave.prompt_id = asked.prompt_id and wave.wave = counted.wave and wave.wave > asked.born_wave
        )
    group by all
)
select
    shown.*,
    described.wrong / described.n as wrong_rate,
    plain.wrong / plain.n as plain_wrong_rate,
    described.strictly_wrong / described.n as strict_rate,
    plain.strictly_wrong / plain.n as plain_strict_rate
from shown
left join described using (hypothesis_id, classifier)
left join plain using (hypothesis_id, classifier)
order by classifier;
