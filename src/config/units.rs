//! Durations, sizes, numbers and words: text → value, each with its rule. Imports only the error
//! type and suggestions.

use std::str::FromStr;
use std::time::Duration;

use super::error::Broken;
use super::suggest;

/// Longest duration that can be written, so that sums of several cannot overflow.
const LONGEST: Duration = Duration::from_secs(3650 * 24 * 3600);

const UNITS: [(&str, u64); 5] = [
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// A duration: `10m`, `30s`, `200ms`, `1h30m`, `0s`.
pub(super) fn duration(text: &str) -> Result<Duration, Broken> {
    const EXAMPLES: &str = "write for example `30s`, `10m`, `1h30m` or `200ms`";
    let wrong = || {
        Broken::new(
            "a duration is whole numbers with the units d, h, m, s, ms, the largest first",
            EXAMPLES,
        )
    };
    if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
        return Err(Broken::new(
            "a duration needs a unit",
            format!("write `{text}s` for seconds, `{text}ms` for milliseconds"),
        ));
    }
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (number, after) = split_where(rest, |c| !c.is_ascii_digit());
        let (unit, after) = split_where(after, |c| c.is_ascii_digit());
        let number: u64 = digits(number).ok_or_else(wrong)?;
        // The iterator goes on behind the unit it found: each at most once, in falling order.
        let (_, millis) = units.find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        total = number
            .checked_mul(*millis)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(too_long)?;
        rest = after;
    }
    let value = Duration::from_millis(total);
    if text.is_empty() {
        Err(wrong())
    } else if value > LONGEST {
        Err(too_long())
    } else {
        Ok(value)
    }
}

fn too_long() -> Broken {
    Broken::new("a duration is at most 3650d", "write a shorter duration")
}

/// A duration within bounds, both of them allowed.
pub(super) fn duration_within(
    text: &str,
    least: Duration,
    most: Duration,
) -> Result<Duration, Broken> {
    let value = duration(text)?;
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    let (least, most) = (in_words(least), in_words(most));
    Err(Broken::new(
        format!("{least} ≤ this ≤ {most}"),
        format!("write a duration from {least} to {most}"),
    ))
}

/// A size in bytes: `8192`, `8KiB`, `10MiB`, `1GiB`.
pub(super) fn size_within(text: &str, least: u64, most: u64) -> Result<u64, Broken> {
    let (number, unit) = split_where(text, |c| !c.is_ascii_digit());
    let factor: Option<u64> = match unit {
        "" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let (Some(number), Some(factor)) = (digits::<u64>(number), factor) else {
        return Err(Broken::new(
            "a size is a whole number of bytes, or one with the unit KiB, MiB or GiB",
            "write for example `8KiB` or `10MiB`",
        ));
    };
    match number.checked_mul(factor) {
        Some(value) if (least..=most).contains(&value) => Ok(value),
        _ => {
            let (least, most) = (size_in_words(least), size_in_words(most));
            Err(Broken::new(
                format!("{least} ≤ this ≤ {most}"),
                format!("write a size from {least} to {most}"),
            ))
        }
    }
}

/// A whole number within bounds, both of them allowed.
pub(super) fn number_within(text: &str, least: u32, most: u32) -> Result<u32, Broken> {
    match digits(text) {
        Some(value) if (least..=most).contains(&value) => Ok(value),
        _ => Err(Broken::new(
            format!("a whole number from {least} to {most}"),
            "write a number within these bounds",
        )),
    }
}

/// `true` or `false`.
pub(super) fn boolean(text: &str) -> Result<bool, Broken> {
    word(text, &[("true", true), ("false", false)])
}

/// One of a few words.
pub(super) fn word<T: Clone>(text: &str, known: &[(&str, T)]) -> Result<T, Broken> {
    if let Some((_, value)) = known.iter().find(|(name, _)| *name == text) {
        return Ok(value.clone());
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let rule = format!("one of {}", suggest::listed(&names));
    let fix = match suggest::nearest(text, &names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "write one of these words as it stands here".to_owned(),
    };
    Err(Broken::new(rule, fix))
}

/// A number that consists of digits only: no sign, no space, no other base.
pub(super) fn digits<T: FromStr>(text: &str) -> Option<T> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

/// A duration as the configuration file writes it.
pub(super) fn in_words(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, millis) in UNITS {
        // 24h is more familiar than 1d.
        if (unit == "d" && rest < 2 * millis) || rest < millis {
            continue;
        }
        text.push_str(&format!("{}{unit}", rest / millis));
        rest %= millis;
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

/// A size as the configuration file writes it.
pub(super) fn size_in_words(bytes: u64) -> String {
    [("GiB", 30), ("MiB", 20), ("KiB", 10)]
        .into_iter()
        .find(|(_, shift)| bytes > 0 && bytes.is_multiple_of(1 << shift))
        .map_or_else(
            || bytes.to_string(),
            |(unit, shift)| format!("{}{unit}", bytes >> shift),
        )
}

fn split_where(text: &str, end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(end).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print_alike() {
        for (text, millis) in [
            ("0s", 0),
            ("200ms", 200),
            ("30s", 30_000),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("1s500ms", 1_500),
            ("24h", 86_400_000),
            ("7d", 604_800_000),
        ] {
            let value = duration(text).unwrap();
            assert_eq!(value, Duration::from_millis(millis), "{text}");
            assert_eq!(in_words(value), text);
        }
        assert_eq!(duration("90m").unwrap(), duration("1h30m").unwrap());
    }

    #[test]
    fn malformed_durations_are_refused() {
        for text in [
            "",
            "s",
            "10",
            "10 m",
            "1.5s",
            "-1s",
            "+1s",
            "1m1h",
            "1s1s",
            "1w",
            "1H",
            "1h ",
            "1h30",
            "3651d",
            "99999999999999999999s",
            "18446744073709551615d",
            "٣s",
            "1e3s",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(duration("10").unwrap_err().rule, "a duration needs a unit");
    }

    #[test]
    fn sizes_read_and_print_alike() {
        for (text, bytes) in [
            ("0", 0),
            ("1", 1),
            ("8KiB", 8192),
            ("10MiB", 10 << 20),
            ("2GiB", 2 << 30),
        ] {
            assert_eq!(size_within(text, 0, u64::MAX).unwrap(), bytes, "{text}");
            assert_eq!(size_in_words(bytes), text);
        }
        for text in [
            "",
            "KiB",
            "8KB",
            "8 KiB",
            "-1",
            "1.5MiB",
            "99999999999GiB",
            "0x10",
        ] {
            assert!(size_within(text, 0, u64::MAX).is_err(), "{text}");
        }
    }
}
