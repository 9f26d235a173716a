select
    classifier,
    sum(images)::ubigint as images,
    sum(passes)::ubigint as passes,
    sum(bugs)::ubigint as bugs,
    sum(generator_misses)::ubigint as generator_misses,
    sum(ambiguous)::ubigint as ambiguous
from ledger
group by classifier
order by classifier;
