create or replace view label_or_gate as
select
    photograph.name,
    photograph.label,
    image.gate_score,
    image.gate_score < audit.gate_lower as surely,
    list(prediction.predicted order by prediction.classifier) as predicted,
    count(*) filter (not prediction.wrong) as agreeing,
    image.image_id
from photograph
join prompt on prompt.label = photograph.label and prompt.text = 'photographs'
join image on image.prompt_id = prompt.prompt_id and image.index = photograph.index
join prediction using (image_id)
cross join audit
where photograph.half is not null and image.gate_score < audit.gate_upper
group by photograph.name, photograph.label, image.gate_score, audit.gate_lower, image.image_id;
comment on view label_or_gate is 'Photographs that the gate doubts: their label is wrong, or the gate is. For people to look at; none counts in a rate. `surely` says that the gate''s score is under its lower bound, `agreeing` how many classifiers name the label.';
