-- Wilson's score interval for k of n (Wilson 1927), 95 %: z = 1.959964.
create or replace macro wilson_low(k, n) as
    case when n > 0 then greatest(0, (k + 1.920729410347 - 1.959963984540 * sqrt(k * (n - k) / n + 0.960364705174)) / (n + 3.841458820695)) end;

create or replace macro wilson_high(k, n) as
    case when n > 0 then least(1, (k + 1.920729410347 + 1.959963984540 * sqrt(k * (n - k) / n + 0.960364705174)) / (n + 3.841458820695)) end;

-- Bonett and Price (2012): adjusted Wald interval for the difference of two paired proportions, 95 %; more and less are
-- the discordant pairs, n all of them.
create or replace macro bonett_price_half(more, less, n) as
    1.959963984540 * sqrt(((more + 1) / (n + 2) + (less + 1) / (n + 2) - pow((more - less) / (n + 2), 2)) / (n + 2));

create or replace macro bonett_price_low(more, less, n) as
    case when n > 0 then greatest(-1, (more - less) / (n + 2) - bonett_price_half(more, less, n)) end;

create or replace macro bonett_price_high(more, less, n) as
    case when n > 0 then least(1, (more - less) / (n + 2) + bonett_price_half(more, less, n)) end;
