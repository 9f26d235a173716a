-- Every classifier on each confirmed description, with its rates of any error, by the accepted set and strictly.
with shown as (
    select * from findings
    where hypothesis_id in (select hypothesis_id from findings where status = 'confirmed')
),
asked as (
    -- each side of a pair, in the waves in which the description was asked
    select distinct
        shown.hypothesis_id, shown.classifier, shown.selected, wave.wave, side.described,
        if(side.described, own.prompt_id, label.plain_prompt_id) as prompt_id
    from shown
    join hypothesis using (hypothesis_id)
    join hypothesis_prompt as own using (hypothesis_id)
    join label on label.label = own.label
    join wave on wave.prompt_id = own.prompt_id and wave.wave > hypothesis.born_wave
    cross join (values (true), (false)) as side(described)
    where shown.tested_on = 'generated'
),
rates as (
    select
        asked.hypothesis_id, asked.classifier, asked.described,
        coalesce(sum(images) filter (wrong), 0) / sum(images) as wrong,
        coalesce(sum(images) filter (strictly_wrong), 0) / sum(images) as strictly_wrong
    from asked
    join counted
        on counted.prompt_id = asked.prompt_id and counted.wave = asked.wave and counted.classifier = asked.classifier
    where passed and (counted.phase <> 'reserve') = asked.selected
    group by all
)
select
    shown.*,
    described.wrong as wrong_rate,
    plain.wrong as plain_wrong_rate,
    described.strictly_wrong as strict_rate,
    plain.strictly_wrong as plain_strict_rate
from shown
left join rates as described
    on described.hypothesis_id = shown.hypothesis_id and described.classifier = shown.classifier and described.described
left join rates as plain
    on plain.hypothesis_id = shown.hypothesis_id and plain.classifier = shown.classifier and not plain.described
order by shown.classifier;
