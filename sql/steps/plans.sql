-- Every wave that was ever begun, in order: of generated images, or of photographs ($tested_on).
select wave.wave, wave.phase, prompt.label, prompt.text, prompt.description, wave.first_index, wave.images
from wave
join prompt using (prompt_id)
where (wave.phase in ('photographs', 'proof')) = ($tested_on = 'photographs')
order by wave.wave, wave.place;
