-- Whose error it was: the gate is asked first, and the classifier second. lower and upper are the gate's bounds, score its
-- score of the image, or the largest bound that this reaches.
create or replace macro verdict_of(score, lower, upper, wrong) as
    case
        when score < lower then 'generator_miss'
        when score < upper then 'ambiguous'
        when wrong then 'failure'
        else 'pass'
    end;
