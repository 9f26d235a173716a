-- Every wave that was ever begun, in order.
select wave.wave, wave.phase, prompt.label, prompt.text, prompt.description, wave.first_index, wave.images
from wave
join prompt using (prompt_id)
order by wave.wave, wave.place;
