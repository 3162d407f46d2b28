//! The shape of a YAML document without its values: what `schema` compares with the known keys.
//!
//! Reading it bounds the document: an alias counts as often as it is used, so that a small file
//! cannot unfold into a large one. Values are not kept, so no secret can leak from here.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::path::KeyPath;

/// Most values (aliases unfolded) that a document may hold.
const MAX_NODES: usize = 200_000;

/// Net nesting of brackets at which the text is not even handed to the parser, whose time grows
/// with depth times length.
const MAX_BRACKETS: usize = 1_000;

/// What stands at a place of the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// `null`, `~` or nothing.
    Null,
    /// Text, number or boolean.
    Scalar,
    /// A value with a tag of its own (`!name`).
    Tagged,
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

/// A document that can be read.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) root: Node,
    /// Keys that stand twice in their map.
    pub(super) repeated: Vec<KeyPath>,
}

/// Why a document cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub(super) line: Option<usize>,
    pub(super) reason: String,
}

/// Reads the shape of `text`.
///
/// # Errors
/// When it is not one YAML document within the bounds.
pub(super) fn read(text: &str) -> Result<Document, Unreadable> {
    if let Some(line) = line_of_too_deep_brackets(text) {
        let reason = format!("brackets are nested more than {MAX_BRACKETS} deep");
        return Err(Unreadable {
            line: Some(line),
            reason,
        });
    }
    let state = State {
        left: Cell::new(MAX_NODES),
        repeated: RefCell::default(),
    };
    let seed = Grow {
        at: &KeyPath::root(),
        state: &state,
    };
    match seed.deserialize(serde_yaml::Deserializer::from_str(text)) {
        Ok(root) => Ok(Document {
            root,
            repeated: state.repeated.into_inner(),
        }),
        Err(error) => Err(Unreadable {
            line: error
                .location()
                .map(|location| location.line().min(last_line(text))),
            reason: without_position(&error.to_string()),
        }),
    }
}

/// The parser may place an error at the end of the text one line behind it. Counts too many lines
/// when they end with CR LF, which does no harm to a limit.
fn last_line(text: &str) -> usize {
    const BREAKS: [char; 5] = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];
    text.trim_end_matches(BREAKS).matches(BREAKS).count() + 1
}

/// The parser's message without the position that it ends with; the position is shown apart.
fn without_position(message: &str) -> String {
    let cut = message.find(" at line ").unwrap_or(message.len());
    message.get(..cut).unwrap_or(message).to_owned()
}

/// A rough count that can only be too low in a text which was built to deceive it.
fn line_of_too_deep_brackets(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (position, line) in text.lines().enumerate() {
        let code = line.split(" #").next().unwrap_or_default();
        for byte in code.bytes() {
            match byte {
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > MAX_BRACKETS {
                return Some(position + 1);
            }
        }
    }
    None
}

struct State {
    left: Cell<usize>,
    repeated: RefCell<Vec<KeyPath>>,
}

#[derive(Clone, Copy)]
struct Grow<'a> {
    at: &'a KeyPath,
    state: &'a State,
}

impl Grow<'_> {
    fn spend<E: de::Error>(self) -> Result<(), E> {
        match self.state.left.get().checked_sub(1) {
            Some(left) => {
                self.state.left.set(left);
                Ok(())
            }
            None => Err(E::custom(format!(
                "the document holds more than {MAX_NODES} values (aliases count as often as they are used)"
            ))),
        }
    }

    fn leaf<E: de::Error>(self, node: Node) -> Result<Node, E> {
        self.spend()?;
        Ok(node)
    }
}

impl<'de> DeserializeSeed<'de> for Grow<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Grow<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Node, E> {
        self.leaf(Node::Scalar)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Node, E> {
        self.leaf(Node::Scalar)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Node, E> {
        self.leaf(Node::Scalar)
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<Node, E> {
        self.leaf(Node::Scalar)
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<Node, E> {
        self.leaf(Node::Scalar)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Node, E> {
        self.leaf(Node::Scalar)
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Node, E> {
        self.leaf(Node::Scalar)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        self.leaf(Node::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Node, E> {
        self.leaf(Node::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        self.spend()?;
        let mut items = Vec::new();
        loop {
            let at = &self.at.index(items.len());
            let state = self.state;
            match seq.next_element_seed(Grow { at, state })? {
                Some(item) => items.push(item),
                None => return Ok(Node::List(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        self.spend()?;
        let mut entries: Vec<(String, Node)> = Vec::new();
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let at = &self.at.key(&key);
            if !seen.insert(key.clone()) {
                self.state.repeated.borrow_mut().push(at.clone());
            }
            let state = self.state;
            let value = map.next_value_seed(Grow { at, state })?;
            entries.push((key, value));
        }
        Ok(Node::Map(entries))
    }

    fn visit_enum<A: de::EnumAccess<'de>>(self, data: A) -> Result<Node, A::Error> {
        use de::VariantAccess as _;
        let (_, content) = data.variant::<String>()?;
        content.newtype_variant::<IgnoredAny>()?;
        self.leaf(Node::Tagged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_shape_order_and_repeated_keys() {
        let document = read("b: [1, {c: ~}]\na: x\nb: 2\nt: !tag [1]\n").unwrap();
        let inner = Node::Map(vec![("c".to_owned(), Node::Null)]);
        assert_eq!(
            document.root,
            Node::Map(vec![
                ("b".to_owned(), Node::List(vec![Node::Scalar, inner])),
                ("a".to_owned(), Node::Scalar),
                ("b".to_owned(), Node::Scalar),
                ("t".to_owned(), Node::Tagged),
            ])
        );
        assert_eq!(document.repeated, [KeyPath::root().key("b")]);
    }

    #[test]
    fn an_alias_bomb_is_refused_soon() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..30 {
            let from = format!("*a{}", i - 1);
            let list = vec![from; 10].join(", ");
            text.push_str(&format!("a{i}: &a{i} [{list}]\n"));
        }
        let refused = read(&text).unwrap_err();
        assert!(
            refused.reason.contains("more than 200000 values")
                || refused.reason.contains("repetition"),
            "{}",
            refused.reason
        );
    }

    #[test]
    fn a_wide_anchor_used_often_is_refused_soon() {
        let text = format!(
            "- &a [{}]\n{}",
            "x, ".repeat(20_000),
            "- *a\n".repeat(20_000)
        );
        assert!(
            read(&text)
                .unwrap_err()
                .reason
                .contains("more than 200000 values")
        );
    }

    #[test]
    fn deep_brackets_are_refused_before_the_parser_sees_them() {
        let refused = read(&format!("a: 1\nb: {}", "{a: ".repeat(200_000))).unwrap_err();
        assert_eq!(refused.line, Some(2));
    }

    #[test]
    fn syntax_errors_have_a_line() {
        let refused = read("a: 1\nb: [1, 2\nc: 3\n").unwrap_err();
        assert_eq!(refused.line, Some(3), "{}", refused.reason);
        assert!(!refused.reason.contains("line"), "{}", refused.reason);
    }
}
