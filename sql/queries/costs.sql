-- What each confirmed finding cost: the images of its prompts, and the plain ones that they were paired with.
select
    findings.finding,
    findings.classifier,
    findings.label,
    findings.predicted,
    findings.description,
    coalesce(sum(wave.images) filter (wave.phase = 'test'), 0)::bigint as test_images,
    coalesce(sum(wave.images) filter (wave.phase = 'reserve'), 0)::bigint as reserve_images,
    2 * sum(wave.images)::bigint as with_their_plain_ones,
    findings.effect
from findings
join hypothesis_prompt as own on own.hypothesis_id = findings.hypothesis_id
join wave on wave.prompt_id = own.prompt_id
where findings.finding is not null
group by all
order by findings.finding;
