//! Reading answers: members by name, tokens in parts, series of a scrape, dates.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::clock::Timestamp;

/// A member as text, empty when it is none.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A member as a list, empty when it is none.
pub(super) fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value
        .get(name)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

pub(super) fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or_default()
}

/// A part of a compact token as JSON: 0 its header, 1 its claims.
pub(super) fn part(token: &str, index: usize) -> Value {
    let encoded = token.split('.').nth(index).unwrap_or_default();
    let bytes = URL_SAFE_NO_PAD.decode(encoded).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// JSON as a part of a compact token.
pub(super) fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// The sum of every series of `name` in a scrape; `None` when there is no such series.
pub(super) fn metric(scrape: &str, name: &str) -> Option<u64> {
    let mut found = None;
    for line in scrape.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else {
            continue;
        };
        if series.split('{').next() == Some(name)
            && let Ok(value) = value.parse::<f64>()
        {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "counters are whole, and small in a minute"
            )]
            let value = value as u64;
            found = Some(found.unwrap_or(0) + value);
        }
    }
    found
}

/// A date of the product's own form, `2026-01-02T03:04:05.678Z`.
pub(super) fn moment(text: &str) -> Option<Timestamp> {
    let mut numbers = text
        .trim_end_matches('Z')
        .split(['-', 'T', ':', '.'])
        .map(|digits| digits.parse::<i64>().ok());
    let mut next = || numbers.next().flatten();
    let (year, month, day) = (next()?, next()?, next()?);
    let (hour, minute, second, milli) = (next()?, next()?, next()?, next().unwrap_or(0));
    // Days since 1970 of the proleptic Gregorian calendar, the year beginning in March.
    let (shifted_year, shifted_month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let era = shifted_year.div_euclid(400);
    let of_era = shifted_year.rem_euclid(400);
    let of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second;
    Some(Timestamp::from_millis(seconds * 1000 + milli))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_they_are_written() {
        for millis in [
            0,
            951_782_400_000,
            1_709_164_799_999,
            4_107_542_400_001,
            1_772_323_200_000,
        ] {
            let at = Timestamp::from_millis(millis);
            assert_eq!(moment(&at.to_string()), Some(at));
        }
        assert_eq!(moment("soon"), None);
        assert_eq!(moment(""), None);
    }

    #[test]
    fn series_are_summed_by_their_whole_name() {
        let scrape = "# TYPE a counter\na{x=\"1\"} 2\na{x=\"b c\"} 3\nab 7\n";
        assert_eq!(metric(scrape, "a"), Some(5));
        assert_eq!(metric(scrape, "ab"), Some(7));
        assert_eq!(metric(scrape, "c"), None);
    }
}
