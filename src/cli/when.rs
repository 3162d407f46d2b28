//! Moments and spans in words.

use std::time::Duration;

use crate::clock::Timestamp;

/// `3 minutes`, `2 hours 5 minutes`, `14 days`, `1 year 97 days`: the two largest units, never more.
pub(super) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    // A year of 365 days: nobody counts the leap days of a span this long.
    let units = [
        (31_536_000, "year"),
        (86_400, "day"),
        (3_600, "hour"),
        (60, "minute"),
        (1, "second"),
    ];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (size, name) in units {
        let count = rest / size;
        rest %= size;
        if count > 0 {
            let plural = if count == 1 { "" } else { "s" };
            parts.push(format!("{count} {name}{plural}"));
        } else if !parts.is_empty() {
            // `2 days 5 seconds` would say less than it looks like.
            break;
        }
        if parts.len() == 2 {
            break;
        }
    }
    if parts.is_empty() {
        "less than a second".to_owned()
    } else {
        parts.join(" ")
    }
}

/// `2026-11-25T07:00:00.000Z, 5 minutes ago` or `…, in 55 minutes`.
pub(super) fn moment(at: Timestamp, now: Timestamp) -> String {
    if at > now {
        format!("{at}, in {}", span(at.since(now)))
    } else {
        format!("{at}, {} ago", span(now.since(at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_at_most_two_units() {
        for (seconds, words) in [
            (0, "less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "1 minute"),
            (61, "1 minute 1 second"),
            (3_600, "1 hour"),
            (3_605, "1 hour"),
            (7_500, "2 hours 5 minutes"),
            (90_061, "1 day 1 hour"),
            (1_209_600, "14 days"),
            (40_000_000, "1 year 97 days"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), words, "{seconds}");
        }
    }

    #[test]
    fn moments_say_before_or_after() {
        let now = Timestamp::from_seconds(1000);
        assert_eq!(
            moment(Timestamp::from_seconds(940), now),
            "1970-01-01T00:15:40.000Z, 1 minute ago"
        );
        assert_eq!(
            moment(Timestamp::from_seconds(1060), now),
            "1970-01-01T00:17:40.000Z, in 1 minute"
        );
    }
}
