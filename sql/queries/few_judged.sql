-- Labels of whose images few or none pass the gate.
select gate_pass.label, images, passed, rate
from gate_pass
join label using (label)
where few
order by label.place;
