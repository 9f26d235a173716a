-- Photographs whose label or whose gate is wrong, the most doubtful first, for people to look at.
select *
from label_or_gate
order by gate_score, name;
