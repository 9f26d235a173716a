-- What each confirmed finding cost: the images of its prompts, and the plain ones that they were paired with.
select
    findings.finding,
    findings.classifier,
    findings.label,
    findings.predicted,
    findings.description,
    count(*) filter (wave.phase = 'test') as test_images,
    count(*) filter (wave.phase = 'reserve') as reserve_images,
    2 * count(*) as with_their_plain_ones,
    findings.effect
from findings
join hypothesis_prompt as own on own.hypothesis_id = findings.hypothesis_id
join image on image.prompt_id = own.prompt_id
join chunk on chunk.chunk_id = image.chunk_id
join wave on wave.wave = chunk.wave and wave.prompt_id = chunk.prompt_id
where findings.finding is not null
group by all
order by findings.finding;
