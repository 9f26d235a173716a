create or replace view budget as
select
    wave.phase,
    count(distinct wave.wave) as waves,
    sum(wave.images)::bigint as planned,
    coalesce(sum(made.images), 0)::bigint as made
from wave
left join (select wave, prompt_id, sum(images) as images from chunk group by all) as made
    on made.wave = wave.wave and made.prompt_id = wave.prompt_id
group by wave.phase;

comment on view budget is 'How many images each phase planned and made.';
