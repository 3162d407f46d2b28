//! From a key path to a line of the YAML text.
//!
//! The YAML parser itself is asked: the text is read once more, and at the wanted place the read
//! is broken off with an error, which then carries the parser's own position. That is exact for
//! block and flow style, quoting, comments and aliases, where a scan of the text would guess. It
//! costs one parse per answer, so it is asked for printed findings only.

use std::cell::Cell;
use std::fmt;

use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::path::{KeyPath, Step};

/// The line (from 1) of `path`: of its key, or of the list item. What does not exist has the line
/// of its nearest parent, and so the first line of the document at last.
///
/// With `second`, the second of two equal keys is meant.
pub(super) fn line(text: &str, path: &KeyPath, second: bool) -> Option<usize> {
    let exact = find(text, path.steps(), usize::from(second));
    exact.or_else(|| line(text, &path.parent()?, false))
}

fn find(text: &str, steps: &[Step], skip: usize) -> Option<usize> {
    let state = State {
        skip: Cell::new(skip),
        found: Cell::new(false),
    };
    let seek = Seek {
        steps,
        state: &state,
    };
    let broken_off =
        de::DeserializeSeed::deserialize(seek, serde_yaml::Deserializer::from_str(text));
    let location = broken_off.err()?.location()?;
    state.found.get().then_some(location.line())
}

struct State {
    /// How many matches to pass over.
    skip: Cell<usize>,
    found: Cell<bool>,
}

impl State {
    /// Breaks the read off, unless this match is to be passed over.
    fn arrive<E: de::Error>(&self) -> Result<(), E> {
        if let Some(rest) = self.skip.get().checked_sub(1) {
            self.skip.set(rest);
            return Ok(());
        }
        self.found.set(true);
        Err(E::custom("found"))
    }
}

/// Walks towards `steps`; ignores everything beside the way.
#[derive(Clone, Copy)]
struct Seek<'a> {
    steps: &'a [Step],
    state: &'a State,
}

impl<'de> de::DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        self.leaf()
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        self.leaf()
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        self.leaf()
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<(), E> {
        self.leaf()
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<(), E> {
        self.leaf()
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        self.leaf()
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        self.leaf()
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.leaf()
    }

    fn visit_none<E: de::Error>(self) -> Result<(), E> {
        self.leaf()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let wanted = match self.steps.split_first() {
            None => return self.state.arrive(),
            Some((Step::Index(wanted), rest)) => Some((*wanted, rest)),
            Some((Step::Key(_), _)) => None,
        };
        let mut position = 0;
        loop {
            let went_on = match wanted {
                Some((index, steps)) if index == position => {
                    let state = self.state;
                    seq.next_element_seed(Seek { steps, state })?.is_some()
                }
                _ => seq.next_element::<IgnoredAny>()?.is_some(),
            };
            if !went_on {
                return Ok(());
            }
            position += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let wanted = match self.steps.split_first() {
            None => return self.state.arrive(),
            Some((Step::Key(wanted), rest)) => Some((wanted.as_str(), rest)),
            Some((Step::Index(_), _)) => None,
        };
        let name = wanted.map(|(name, _)| name);
        let is_last = wanted.is_some_and(|(_, rest)| rest.is_empty());
        let state = self.state;
        while let Some(matches) = map.next_key_seed(SeekKey {
            name,
            is_last,
            state,
        })? {
            match wanted {
                Some((_, steps)) if matches && !is_last => {
                    map.next_value_seed(Seek { steps, state })?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_enum<A: de::EnumAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        // A tag: it is refused as a whole, so what it holds is never asked for.
        if self.steps.is_empty() {
            return self.state.arrive();
        }
        Err(de::Error::custom("tagged"))
    }
}

impl Seek<'_> {
    fn leaf<E: de::Error>(self) -> Result<(), E> {
        if self.steps.is_empty() {
            self.state.arrive()
        } else {
            Ok(())
        }
    }
}

/// Reads a key and says whether it is the wanted one; breaks off when the way ends with it.
struct SeekKey<'a> {
    name: Option<&'a str>,
    is_last: bool,
    state: &'a State,
}

impl<'de> de::DeserializeSeed<'de> for SeekKey<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for SeekKey<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<bool, E> {
        let matches = self.name == Some(key);
        if matches && self.is_last {
            self.state.arrive()?;
        }
        Ok(matches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# comment with key: a
a:
  b: 'x: y'   # b
  \"quoted key\":
    - one
    -
      two: 2
      three: |
        a: text
        b: text
    - { four: 4, five: [5,
        55,
        { six: 6 } ] }
anchor: &x
  inner: 1
copy: *x
a: again
";

    fn at(steps: &[Step], second: bool) -> Option<usize> {
        let path = steps.iter().fold(KeyPath::root(), |path, step| match step {
            Step::Key(name) => path.key(name),
            Step::Index(index) => path.index(*index),
        });
        line(TEXT, &path, second)
    }

    fn key(name: &str) -> Step {
        Step::Key(name.to_owned())
    }

    #[test]
    fn finds_keys_and_items_in_block_and_flow_style() {
        let list = || vec![key("a"), key("quoted key")];
        let inside = |more: &[Step]| [list(), more.to_vec()].concat();
        let cases = [
            (vec![key("a")], 2),
            (vec![key("a"), key("b")], 3),
            (list(), 4),
            (inside(&[Step::Index(0)]), 5),
            (inside(&[Step::Index(1)]), 7),
            (inside(&[Step::Index(1), key("three")]), 8),
            (inside(&[Step::Index(2), key("five")]), 11),
            (inside(&[Step::Index(2), key("five"), Step::Index(1)]), 12),
            (
                inside(&[Step::Index(2), key("five"), Step::Index(2), key("six")]),
                13,
            ),
            (vec![key("copy"), key("inner")], 15),
        ];
        for (steps, expected) in cases {
            assert_eq!(at(&steps, false), Some(expected), "{steps:?}");
        }
    }

    #[test]
    fn the_second_of_two_equal_keys_has_its_own_line() {
        assert_eq!(at(&[key("a")], true), Some(17));
    }

    #[test]
    fn what_is_missing_has_the_line_of_its_nearest_parent() {
        assert_eq!(
            at(&[key("copy"), key("none"), Step::Index(3)], false),
            Some(16)
        );
        assert_eq!(at(&[key("nowhere")], false), Some(2));
    }
}
