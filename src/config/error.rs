//! What is wrong with a configuration: every finding with file, line, key path, value, rule and
//! remedy. Values of secrets never get in here. Imports only [`super::path`].

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use super::path::KeyPath;

/// Most findings that are printed; a file with more has one cause that repeats.
pub(super) const MAX_SHOWN: usize = 50;

/// One thing that is wrong with a configuration file.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{}", self.lines())]
pub struct ConfigError {
    /// The file that was read.
    pub file: PathBuf,
    /// Line in it, counted from 1: that of the key, or of its nearest parent when it is missing.
    pub line: Option<usize>,
    /// The key, as `routes[1].auth.audiences`; empty for the file as a whole.
    pub path: String,
    /// What stands there, escaped and shortened; `None` for secrets and for missing keys.
    pub value: Option<String>,
    /// The rule that does not hold.
    pub rule: String,
    /// What to do.
    pub fix: String,
}

impl ConfigError {
    /// Rules and remedies may quote what stands in the file, so they are escaped here, for good.
    pub(super) fn new(
        file: PathBuf,
        line: Option<usize>,
        at: &KeyPath,
        value: Option<String>,
        broken: &Broken,
    ) -> Self {
        Self {
            file,
            line,
            path: at.to_string(),
            value,
            rule: escaped(broken.rule.chars()),
            fix: escaped(broken.fix.chars()),
        }
    }

    fn lines(&self) -> String {
        let mut text = escaped(self.file.display().to_string().chars());
        if let Some(line) = self.line {
            text.push_str(&format!(":{line}"));
        }
        if !self.path.is_empty() {
            text.push_str(&format!(": {}", self.path));
        }
        if let Some(value) = &self.value {
            text.push_str(&format!("\n    value: {value}"));
        }
        text.push_str(&format!(
            "\n    rule:  {}\n    fix:   {}",
            self.rule, self.fix
        ));
        text
    }
}

/// Everything that is wrong with a configuration file, in the order of its lines.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The findings; never empty.
    pub errors: Vec<ConfigError>,
    /// How many more there are than [`ConfigErrors::errors`] holds.
    pub omitted: usize,
}

impl ConfigErrors {
    /// A single finding about the file as a whole.
    pub(super) fn whole_file(
        file: PathBuf,
        line: Option<usize>,
        rule: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let broken = Broken::new(rule.into(), fix.into());
        Self {
            errors: vec![ConfigError::new(
                file,
                line,
                &KeyPath::root(),
                None,
                &broken,
            )],
            omitted: 0,
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.errors.len() + self.omitted;
        let plural = if total == 1 { "" } else { "s" };
        write!(f, "the configuration has {total} error{plural}")?;
        for error in &self.errors {
            write!(f, "\n\n{error}")?;
        }
        if self.omitted > 0 {
            write!(f, "\n\n… and {} more", self.omitted)?;
        }
        Ok(())
    }
}

/// A rule that a value breaks, and what to do about it. Knows neither the value nor its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) rule: Cow<'static, str>,
    pub(super) fix: Cow<'static, str>,
}

impl Broken {
    pub(super) fn new(
        rule: impl Into<Cow<'static, str>>,
        fix: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            rule: rule.into(),
            fix: fix.into(),
        }
    }
}

/// A broken rule at a place; `line` is looked up later, and only for findings that are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) at: KeyPath,
    /// The key is there twice, and the second one is meant.
    pub(super) second: bool,
    pub(super) value: Option<String>,
    pub(super) broken: Broken,
}

impl Finding {
    pub(super) fn new(at: &KeyPath, broken: Broken) -> Self {
        Self {
            at: at.clone(),
            second: false,
            value: None,
            broken,
        }
    }
}

/// Text from outside as it may be printed: escaped, and shortened to 100 characters.
pub(super) fn printable(text: &str) -> String {
    const MOST: usize = 100;
    let mut shown = escaped(text.chars().take(MOST));
    if text.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    shown
}

/// Text whose control, bidirectional and other invisible characters are escaped.
pub(super) fn escaped(text: impl Iterator<Item = char>) -> String {
    text.flat_map(|c| {
        // Quotes and backslashes are harmless here and common in paths.
        let plain = matches!(c, '"' | '\'' | '\\').then_some(c);
        let escape = plain.is_none().then(|| c.escape_debug());
        plain.into_iter().chain(escape.into_iter().flatten())
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_cannot_steer_a_terminal() {
        assert_eq!(
            printable("a\u{1b}[2Jb\u{202e}c\n"),
            "a\\u{1b}[2Jb\\u{202e}c\\n"
        );
        assert_eq!(printable(r#"C:\"x""#), r#"C:\"x""#);
        assert_eq!(printable(&"é".repeat(101)).chars().count(), 101);
    }
}
