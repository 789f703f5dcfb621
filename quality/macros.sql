-- What rules share. Each macro is NULL when an operand is NULL or malformed: "not evaluated" passes through.

-- Whole years on day d. Someone born on 29 February comes of age on 1 March.
create or replace temp macro age_on(birth, d) as
    year(d) - year(birth) - case when month(d) * 100 + day(d) < month(birth) * 100 + day(birth) then 1 else 0 end;

-- GB 11643-1999 (ISO 7064 MOD 11-2): the 18th character that the first 17 digits ask for.
create or replace temp macro id_check_char(id) as
    substr(
        '10X98765432',
        1 + (
            (try_cast(id[1:17] as bigint) // 10000000000000000) % 10 * 7
            + (try_cast(id[1:17] as bigint) // 1000000000000000) % 10 * 9
            + (try_cast(id[1:17] as bigint) // 100000000000000) % 10 * 10
            + (try_cast(id[1:17] as bigint) // 10000000000000) % 10 * 5
            + (try_cast(id[1:17] as bigint) // 1000000000000) % 10 * 8
            + (try_cast(id[1:17] as bigint) // 100000000000) % 10 * 4
            + (try_cast(id[1:17] as bigint) // 10000000000) % 10 * 2
            + (try_cast(id[1:17] as bigint) // 1000000000) % 10
            + (try_cast(id[1:17] as bigint) // 100000000) % 10 * 6
            + (try_cast(id[1:17] as bigint) // 10000000) % 10 * 3
            + (try_cast(id[1:17] as bigint) // 1000000) % 10 * 7
            + (try_cast(id[1:17] as bigint) // 100000) % 10 * 9
            + (try_cast(id[1:17] as bigint) // 10000) % 10 * 10
            + (try_cast(id[1:17] as bigint) // 1000) % 10 * 5
            + (try_cast(id[1:17] as bigint) // 100) % 10 * 8
            + (try_cast(id[1:17] as bigint) // 10) % 10 * 4
            + try_cast(id[1:17] as bigint) % 10 * 2
        ) % 11,
        1
    );

create or replace temp macro id_birth_date(id) as cast(try_strptime(substr(trim(id), 7, 8), '%Y%m%d') as date);

-- GB/T 2261.1: an odd 17th digit is male (1), an even one female (2).
create or replace temp macro id_sex_code(id) as
    case try_cast(substr(trim(id), 17, 1) as integer) % 2 when 1 then '1' when 0 then '2' end;

-- An instant's day in the city.
create or replace temp macro local_date(instant) as cast(instant at time zone 'Asia/Shanghai' as date);

-- An instant as people of the city read it.
create or replace temp macro local_minute(instant) as strftime(instant at time zone 'Asia/Shanghai', '%Y-%m-%d %H:%M');

-- 1 clinic and 2 home are face to face, 3 telephone is not.
create or replace temp macro is_face_to_face(way) as way in ('1', '2');

-- A value as a message shows it.
create or replace temp macro as_text(x) as
    case cast(x as varchar)
        when 'true' then '是'
        when 'false' then '否'
        else case when suffix(cast(x as varchar), '.0') then left(cast(x as varchar), -2) else coalesce(cast(x as varchar), '空') end
    end;

-- The months of a child's check-up by its stage code: 8m, 4y.
create or replace temp macro stage_months(stage) as
    try_cast(regexp_extract(stage, '^[0-9]+') as integer) * case right(stage, 1) when 'y' then 12 else 1 end;

-- z-score by the LMS method; beyond 3 the WHO extends it by the distance from 2 to 3 (weight).
create or replace temp macro lms_value(l, m, s, z) as m * power(1 + l * s * z, 1 / l);
create or replace temp macro lms_z(x, l, m, s) as
    case
        when x <= 0 then null
        when (power(x / m, l) - 1) / (l * s) > 3
            then 3 + (x - lms_value(l, m, s, 3)) / (lms_value(l, m, s, 3) - lms_value(l, m, s, 2))
        when (power(x / m, l) - 1) / (l * s) < -3
            then -3 + (x - lms_value(l, m, s, -3)) / (lms_value(l, m, s, -2) - lms_value(l, m, s, -3))
        else (power(x / m, l) - 1) / (l * s)
    end;
