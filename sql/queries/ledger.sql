-- Whose error each image was, by classifier.
select
    classifier,
    sum(images)::bigint as images,
    sum(passes)::bigint as passes,
    sum(failures)::bigint as failures,
    sum(generator_misses)::bigint as generator_misses,
    sum(ambiguous)::bigint as ambiguous,
    sum(label_or_gate)::bigint as label_or_gate
from ledger
group by classifier
order by classifier;
