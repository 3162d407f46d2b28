//! The known keys, and the check of a document's shape against them.
//!
//! The keys are derived from the structs of `raw`, so that a key which is read and a key which is
//! known, suggested and documented are always the same. Reports every misfit, not only the first.

use super::error::{Broken, Finding};
use super::path::KeyPath;
use super::suggest;
use super::tree::Node;

/// What may stand at a place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// Text, number or boolean.
    Scalar,
    /// A list.
    List(&'static Self),
    /// A map whose keys the user chooses.
    Named(&'static Self),
    /// A map with known keys.
    Section(&'static [Key]),
    /// One value or a list of such.
    OneOrMany(&'static Self),
    /// A word in place of the value.
    WordOr(&'static Self),
}

/// A known key of a section.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// As Rust spells it, so possibly with `r#`.
    pub(super) field: &'static str,
    pub(super) shape: Shape,
}

impl Key {
    pub(super) fn name(self) -> &'static str {
        self.field.strip_prefix("r#").unwrap_or(self.field)
    }
}

/// A type of `raw` that knows what may stand in its place.
pub(super) trait Shaped {
    const SHAPE: Shape;
}

/// Keys that a reader of the documents may try, but that this version does not have.
const NOT_YET: [(&str, &str); 1] = [(
    "keys.store.postgres",
    "this version keeps its keys in a file only; write `store: { file: data/keys }`",
)];

/// Everything in `root` that does not fit `shape`, the shape of a whole document.
pub(super) fn misfits(root: &Node, shape: Shape) -> Vec<Finding> {
    let mut walk = Walk {
        top: shape,
        found: Vec::new(),
    };
    walk.value(root, shape, &KeyPath::root());
    walk.found
}

/// Every known key as a pattern: `listeners.proxy[].address`, `upstreams.*.endpoints`.
pub(super) fn patterns(shape: Shape) -> Vec<String> {
    let mut all = Vec::new();
    collect(shape, "", &mut all);
    all
}

fn collect(shape: Shape, prefix: &str, all: &mut Vec<String>) {
    match shape {
        Shape::Scalar => {}
        Shape::List(Shape::Scalar) => {}
        Shape::List(item) | Shape::OneOrMany(item) => collect(*item, &format!("{prefix}[]"), all),
        Shape::WordOr(other) => collect(*other, prefix, all),
        Shape::Named(item) => {
            let name = format!("{prefix}.*");
            all.push(name.clone());
            collect(*item, &name, all);
        }
        Shape::Section(keys) => {
            for key in keys {
                let dot = if prefix.is_empty() { "" } else { "." };
                let name = format!("{prefix}{dot}{}", key.name());
                all.push(name.clone());
                collect(key.shape, &name, all);
            }
        }
    }
}

struct Walk {
    top: Shape,
    found: Vec<Finding>,
}

impl Walk {
    fn value(&mut self, node: &Node, shape: Shape, at: &KeyPath) {
        match (shape, node) {
            (_, Node::Null) => self.report(
                at,
                "a key that is written needs a value".into(),
                "write a value behind it, or remove the key".into(),
            ),
            (_, Node::Tagged) => self.report(
                at,
                "YAML tags (`!name`) are not allowed".into(),
                "write the value without a tag".into(),
            ),
            (Shape::Scalar | Shape::WordOr(_), Node::Scalar) => {}
            (Shape::WordOr(other), _) => self.value(node, *other, at),
            (Shape::List(item) | Shape::OneOrMany(item), Node::List(nodes)) => {
                for (index, node) in nodes.iter().enumerate() {
                    self.value(node, *item, &at.index(index));
                }
            }
            (Shape::OneOrMany(item), _) => self.value(node, *item, at),
            (Shape::Named(item), Node::Map(entries)) => {
                for (name, node) in entries {
                    self.value(node, *item, &at.key(name));
                }
            }
            (Shape::Section(keys), Node::Map(entries)) => self.section(keys, entries, at),
            (Shape::Scalar, Node::List(_) | Node::Map(_))
            | (Shape::List(_), Node::Scalar | Node::Map(_))
            | (Shape::Named(_) | Shape::Section(_), Node::Scalar | Node::List(_)) => {
                self.wrong_kind(shape, node, at);
            }
        }
    }

    fn section(&mut self, keys: &[Key], entries: &[(String, Node)], at: &KeyPath) {
        for (name, node) in entries {
            let here = at.key(name);
            match keys.iter().find(|key| key.name() == name) {
                Some(key) => self.value(node, key.shape, &here),
                None => self.unknown(name, keys, &here),
            }
        }
    }

    fn unknown(&mut self, name: &str, keys: &[Key], at: &KeyPath) {
        let shown = super::error::printable(name);
        let full = at.to_string();
        if let Some((_, fix)) = NOT_YET.iter().find(|(key, _)| *key == full) {
            self.report(at, format!("`{shown}` is not supported"), (*fix).to_owned());
            return;
        }
        let known: Vec<&str> = keys.iter().map(|key| key.name()).collect();
        let rule = match suggest::nearest(name, &known) {
            Some(near) => format!("unknown key `{shown}`, did you mean `{near}`?"),
            None => format!("unknown key `{shown}`"),
        };
        let elsewhere = patterns(self.top)
            .into_iter()
            .find(|pattern| pattern.rsplit('.').next() == Some(name));
        let here = format!("the keys known here are {}", suggest::listed(&known));
        let fix = match elsewhere {
            Some(pattern) => format!("the key belongs at `{pattern}`; {here}"),
            None => here,
        };
        self.report(at, rule, fix);
    }

    fn wrong_kind(&mut self, shape: Shape, node: &Node, at: &KeyPath) {
        let (wanted, example) = match shape {
            Shape::Scalar | Shape::WordOr(_) => ("a single value", "write `key: value`"),
            Shape::List(_) | Shape::OneOrMany(_) => {
                ("a list", "write `key: [a, b]`, or one `- item` a line")
            }
            Shape::Named(_) => (
                "a map of names",
                "write `name: …` below it, one name a line",
            ),
            Shape::Section(_) => ("a map", "write its keys below it, or in `{ }`"),
        };
        let is = match node {
            Node::Null | Node::Tagged | Node::Scalar => "a single value",
            Node::List(_) => "a list",
            Node::Map(_) => "a map",
        };
        let rule = format!("{wanted} must stand here, not {is}");
        self.report(at, rule, example.to_owned());
    }

    fn report(&mut self, at: &KeyPath, rule: String, fix: String) {
        self.found.push(Finding::new(at, Broken::new(rule, fix)));
    }
}
