-- Of each label some plain images that a classifier fails on, those with most errors first.
select prompt.label, image.image_id
from image
join prompt using (prompt_id)
cross join audit
where prompt.description = '' and image.errors > 0 and image.gate_score >= audit.gate_upper
qualify row_number() over (partition by prompt.label order by image.errors desc, image.index) <= $count
order by prompt.label, image.errors desc, image.index;
