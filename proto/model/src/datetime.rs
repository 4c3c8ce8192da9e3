//! Date-times: RFC 3339 text (and its shorter spellings that Qdrant takes) as microseconds since 1970-01-01T00:00Z.

/// Reads `YYYY-MM-DD`, `YYYY-MM-DD[T ]HH:MM[:SS[.fraction]]`, with an optional `Z` or `+HH:MM` offset (none is UTC).
/// Microseconds since 1970-01-01T00:00Z; finer fractions are cut. `None` for anything else.
pub fn parse_micros(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let date = bytes.get(..10)?;
    if date[4] != b'-' || date[7] != b'-' {
        return None;
    }
    let (year, month, day) = (number(&date[..4])?, number(&date[5..7])?, number(&date[8..10])?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    let days_micros = days_from_civil(year, month, day) * 86_400_000_000;
    let rest = &bytes[10..];
    if rest.is_empty() {
        return Some(days_micros);
    }
    if !matches!(rest[0], b'T' | b't' | b' ') {
        return None;
    }
    let (clock, offset_minutes) = split_offset(&rest[1..])?;
    Some(days_micros + clock_micros(clock)? - offset_minutes * 60_000_000)
}

/// The first microsecond of the year 0 and of the year 10000, which has five digits.
const YEAR_0_MICROS: i64 = -719_528 * 86_400_000_000;
const YEAR_10000_MICROS: i64 = 2_932_897 * 86_400_000_000;

/// RFC 3339 in UTC with microseconds; [`parse_micros`] reads back whatever it has read, bar a leap second at the
/// very end of time. (What an offset leads out of the years of four digits is written with one.)
pub fn format_micros(micros: i64) -> String {
    const MOST_MICROS: i64 = (23 * 60 + 59) * 60_000_000;
    let (micros, offset) = match micros {
        YEAR_10000_MICROS.. => (micros - MOST_MICROS, "-23:59"),
        ..YEAR_0_MICROS => (micros.saturating_add(MOST_MICROS), "+23:59"),
        _ => (micros, "Z"),
    };
    let (days, of_day) = (micros.div_euclid(86_400_000_000), micros.rem_euclid(86_400_000_000));
    let (year, month, day) = civil_from_days(days);
    let (seconds, fraction) = (of_day / 1_000_000, of_day % 1_000_000);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{:02}.{fraction:06}{offset}",
        seconds % 60
    )
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, byte| {
        byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0'))
    })
}

/// Splits a time from its offset, the offset in minutes east of UTC.
fn split_offset(time: &[u8]) -> Option<(&[u8], i64)> {
    if let Some((b'Z' | b'z', clock)) = time.split_last() {
        return Some((clock, 0));
    }
    let Some(at) = time.iter().position(|byte| matches!(byte, b'+' | b'-')) else {
        return Some((time, 0));
    };
    let sign = if time[at] == b'-' { -1 } else { 1 };
    let (hours, minutes) = match &time[at + 1..] {
        [h1, h2, b':', m1, m2] | [h1, h2, m1, m2] => (number(&[*h1, *h2])?, number(&[*m1, *m2])?),
        [h1, h2] => (number(&[*h1, *h2])?, 0),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then_some((&time[..at], sign * (hours * 60 + minutes)))
}

/// Reads `HH:MM[:SS[.fraction]]`.
fn clock_micros(clock: &[u8]) -> Option<i64> {
    let (hours, minutes) = match clock.get(..5)? {
        [h1, h2, b':', m1, m2] => (number(&[*h1, *h2])?, number(&[*m1, *m2])?),
        _ => return None,
    };
    let (seconds, fraction) = match &clock[5..] {
        [] => (0, &[][..]),
        [b':', s1, s2] => (number(&[*s1, *s2])?, &[][..]),
        [b':', s1, s2, b'.', fraction @ ..] if !fraction.is_empty() => (number(&[*s1, *s2])?, fraction),
        _ => return None,
    };
    if hours > 23 || minutes > 59 || seconds > 60 || !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let micros = (0..6).fold(0, |sum, at| {
        sum * 10 + fraction.get(at).map_or(0, |byte| i64::from(byte - b'0'))
    });
    Some(((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + micros)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar (Hinnant, "chrono-compatible low-level date algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted_month + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::{format_micros, parse_micros};

    #[test]
    fn spellings_of_one_instant_are_equal() {
        let instant = Some(1_700_000_000_000_000);
        for text in [
            "2023-11-14T22:13:20Z",
            "2023-11-14 22:13:20",
            "2023-11-14T22:13:20.000000Z",
            "2023-11-15T00:13:20+02:00",
            "2023-11-14T14:43:20-0730",
        ] {
            assert_eq!(parse_micros(text), instant, "{text}");
        }
        assert_eq!(parse_micros("1970-01-01"), Some(0));
        assert_eq!(parse_micros("1969-12-31T23:59:59.5Z"), Some(-500_000));
        assert_eq!(parse_micros("2000-02-29"), Some(951_782_400_000_000));
    }

    #[test]
    fn an_instant_that_an_offset_leads_out_of_four_digit_years_reads_back() {
        for text in [
            "9999-12-31T23:59:59.999999-23:59",
            "9999-12-31T23:59:59.999999Z",
            "9999-12-31T23:59:60Z",
            "0000-01-01",
            "0000-01-01T00:00:00+00:01",
            "0000-01-01T00:00:00+23:59",
        ] {
            let micros = parse_micros(text).unwrap();
            assert_eq!(parse_micros(&format_micros(micros)), Some(micros), "{text}");
        }
        assert_eq!(format_micros(super::YEAR_0_MICROS), "0000-01-01T00:00:00.000000Z");
        let last = super::YEAR_10000_MICROS - 1;
        assert_eq!(format_micros(last), "9999-12-31T23:59:59.999999Z");
        assert_eq!(format_micros(last + 1), "9999-12-31T00:01:00.000000-23:59");
        // Far out there is no text that reads back; what there is must not panic.
        for micros in [i64::MIN, i64::MAX] {
            format_micros(micros);
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "2023",
            "2023-02-29",
            "2023-13-01",
            "2023-01-01T",
            "2023-01-01T25:00",
            "2023-01-01T10:00:00.",
            "2023-01-01x",
            "2023-01-01T10:00+2",
        ] {
            assert_eq!(parse_micros(text), None, "{text}");
        }
    }
}
