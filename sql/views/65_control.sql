create or replace view control as
select
    finding.finding,
    finding.classifier,
    finding.label,
    finding.description,
    other.description as control,
    other.predicted as control_predicted,
    other.effect,
    other.effect_low,
    other.effect_high,
    other.pairs
from findings as finding
join findings as other
    on other.label = finding.label
    and other.classifier = finding.classifier
    and other.status <> 'confirmed'
    and not contains(other.description, finding.description)
    and not contains(finding.description, other.description)
where finding.status = 'confirmed'
qualify row_number() over (
    partition by finding.finding
    order by
        abs(len(string_split(other.description, ' ')) - len(string_split(finding.description, ' '))),
        other.pairs desc,
        other.description
) = 1;

comment on view control is 'Beside each confirmed finding another description of its label, as long as can be, that was tested on the same classifier and is not confirmed: what words alone do.';
