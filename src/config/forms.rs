//! The forms that a value may take in the file: a scalar, a map of names, one section or several, a
//! word or a section. Used by `raw` only; nothing here implements `Debug`, values may be secrets.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::schema::{Shape, Shaped};

/// Text, number or boolean, as it stands in the file.
pub(super) struct Scalar(pub(super) String);

impl Shaped for Scalar {
    const SHAPE: Shape = Shape::Scalar;
}

impl<'de> Deserialize<'de> for Scalar {
    /// Asks for a string, which the YAML parser answers with the text of any scalar unchanged: a
    /// name `1.10` does not become the number 1.1.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

impl<T: Shaped> Shaped for Vec<T> {
    const SHAPE: Shape = Shape::List(&T::SHAPE);
}

/// A map whose keys the user chooses, in the order of the file.
pub(super) struct Named<T>(pub(super) Vec<(String, T)>);

impl<T: Shaped> Shaped for Named<T> {
    const SHAPE: Shape = Shape::Named(&T::SHAPE);
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Named<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Named(entries))
            }
        }

        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// One section, or a list of such.
pub(super) enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T: Shaped> Shaped for OneOrMany<T> {
    const SHAPE: Shape = Shape::OneOrMany(&T::SHAPE);
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map or a list of maps")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OneOrMany<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(OneOrMany::One)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<OneOrMany<T>, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(OneOrMany::Many)
            }
        }

        deserializer.deserialize_any(Either(PhantomData))
    }
}

/// A word such as `none`, or a section.
pub(super) enum WordOr<T> {
    Word(Scalar),
    Section(T),
}

impl<T: Shaped> Shaped for WordOr<T> {
    const SHAPE: Shape = Shape::WordOr(&T::SHAPE);
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for WordOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = WordOr<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word or a map")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<WordOr<T>, E> {
                self.visit_str(&value.to_string())
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<WordOr<T>, E> {
                self.visit_str(&value.to_string())
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<WordOr<T>, E> {
                self.visit_str(&value.to_string())
            }

            fn visit_i128<E: de::Error>(self, value: i128) -> Result<WordOr<T>, E> {
                self.visit_str(&value.to_string())
            }

            fn visit_u128<E: de::Error>(self, value: u128) -> Result<WordOr<T>, E> {
                self.visit_str(&value.to_string())
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<WordOr<T>, E> {
                self.visit_str(&value.to_string())
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<WordOr<T>, E> {
                Ok(WordOr::Word(Scalar(word.to_owned())))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<WordOr<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(WordOr::Section)
            }
        }

        deserializer.deserialize_any(Either(PhantomData))
    }
}
