-- Where the time went: each stage's work and waiting, in seconds, its mean queue, and how busy its workers were.
with wall as (
    select work, sum(seconds) as seconds from timing group by work
)
select
    stage,
    sum(images) as images,
    sum(batches) as batches,
    round(sum(images) / sum(batches), 1) as batch,
    max(lanes) as workers,
    sum(busy_seconds) as busy,
    sum(input_seconds) as waiting_for_input,
    sum(room_seconds) as waiting_for_room,
    sum(queued_seconds) / nullif(max(wall.seconds), 0) as queue,
    sum(images) * max(lanes) / nullif(sum(busy_seconds), 0) as images_per_second,
    -- an audit of before workers were counted has one for each stage
    least(sum(busy_seconds) / nullif(max(lanes) * max(wall.seconds), 0), 1) as busy_share
from stage_stat
join wall on wall.work = if(stage = 'caption', 'captions', 'images')
group by stage
order by busy_share desc, stage;
