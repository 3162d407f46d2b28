//! Reads a scrape: the value of a series by name and labels.

/// The value of the series of `name` that has all of `labels`; panics with the candidates when
/// there is none or more than one.
pub fn value(scrape: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let found = matching(scrape, name, labels);
    match found.as_slice() {
        [(_, value)] => *value,
        _ => {
            let candidates: Vec<&str> = scrape
                .lines()
                .filter(|line| line.starts_with(name))
                .collect();
            panic!(
                "{} series match {name}{labels:?}; candidates:\n{}",
                found.len(),
                candidates.join("\n")
            );
        }
    }
}

/// The sum over every series of `name` that has all of `labels`; 0 when there is none.
pub fn sum(scrape: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    matching(scrape, name, labels)
        .iter()
        .map(|(_, value)| value)
        .sum()
}

fn matching<'a>(scrape: &'a str, name: &str, labels: &[(&str, &str)]) -> Vec<(&'a str, f64)> {
    scrape
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, rest) = series.split_once('{').unwrap_or((series, ""));
            let has =
                |(label, value): &(&str, &str)| rest.contains(&format!("{label}=\"{value}\""));
            (found == name && labels.iter().all(has))
                .then(|| (series, value.parse().expect("a number")))
        })
        .collect()
}
