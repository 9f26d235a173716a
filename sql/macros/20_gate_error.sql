-- The gate's error carried into an interval. If a share e of the images that pass do not show their label, a rate r among
-- all that pass and the rate t among those that do show it keep r - e <= t (1 - e) <= r, whatever the others did; so
-- does a difference of two, with the sum of both errors either way. Without a calibration e is 0.
create or replace macro gate_error_of(sort) as
    coalesce((select max(high) from gate_error where kind = sort), 0);

create or replace macro true_rate_low(low, e) as
    case when low is null then null when e < 1 then greatest(0, (low - e) / (1 - e)) else 0 end;

create or replace macro true_rate_high(high, e) as
    case when high is null then null when e < 1 then least(1, high / (1 - e)) else 1 end;

create or replace macro true_effect_low(low, e) as
    case when low is null then null when e < 1 then least(low, greatest(-1, (low - e) / (1 - e))) else -1 end;

create or replace macro true_effect_high(high, e) as
    case when high is null then null when e < 1 then greatest(high, least(1, (high + e) / (1 - e))) else 1 end;
