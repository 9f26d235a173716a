create or replace view to_caption as
with judged as (
    select
        outcome.image_id,
        outcome.prompt_id,
        any_value(outcome.index) as index,
        any_value(outcome.label) as label,
        any_value(outcome.phase) = 'proof' as proof,
        any_value(outcome.description) = '' as plain,
        bool_or(verdict = 'failure') as failed
    from outcome
    where passed
    group by all
),
ranked as (
    select
        *,
        count(*) filter (failed) over (partition by prompt_id, proof) as failures,
        row_number() over (partition by prompt_id, proof, failed order by image_id) as place,
        row_number() over (partition by prompt_id, proof order by image_id) as place_of_all
    from judged
)
select image_id, prompt_id, index
from ranked
where case
        when proof then place_of_all <= 2000 and label in (
            select label from hypothesis where round in (select round from round where kind = 'photographs')
        )
        else failed or (failures > 0 and place <= greatest(failures, case when plain then 48 else 0 end))
    end
    and image_id not in (from caption select image_id union all from caption_failure select image_id)
    and prompt_id not in (
        select hypothesis_prompt.prompt_id
        from hypothesis_prompt
        join hypothesis using (hypothesis_id)
        join decision using (hypothesis_id)
        where status = 'confirmed' and hypothesis.round not in (select round from round where kind = 'photographs')
    );

comment on view to_caption is 'Images that wait for a caption: all failures that pass the gate, and of each prompt with failures as many that no classifier fails on, of a plain one 48 at least; prompts that are confirmed need none. Of the photographs of the proof 2,000 at most of each label that has a description to test, whatever became of them.';
