//! What stands in a store file: a document wrapped in what authenticates it.
//!
//! Invariants: a file is accepted only if it equals, byte for byte, what this module would write
//! for its content, so every byte of it is authenticated; a key set is authenticated under the
//! issuer and revision that the wrapping names, before the document inside is parsed.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::keys::{KeySet, SCHEMA};

use super::SideDocument;
use super::error::StoreError;
use super::kek::Purpose;
use super::sealing::{Keyring, MacError, framed};

/// Longest document that is written or read; 64 keys and a week of tombstones need a small part.
pub(super) const MAX_DOCUMENT_BYTES: u64 = 16 * 1024 * 1024;

const KEY_SET_FORMAT: &str = "portcullis-keyset-1";
const SIDE_FORMAT: &str = "portcullis-side-1";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeySetEnvelope {
    format: String,
    issuer: String,
    revision: u64,
    kek: String,
    mac: String,
    document: Box<RawValue>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SideEnvelope {
    format: String,
    issuer: String,
    name: SideDocument,
    kek: String,
    mac: String,
    data: String,
}

/// One authentic generation of the key set, with the bytes of its file.
#[derive(Clone, Debug)]
pub(super) struct Generation {
    pub(super) set: KeySet,
    /// The key-encryption key that authenticates it.
    pub(super) kek: String,
    pub(super) bytes: Vec<u8>,
}

/// An authentic document beside the key set.
pub(super) struct Side {
    pub(super) data: Vec<u8>,
    /// The key-encryption key that authenticates it.
    pub(super) kek: String,
}

/// The one member of a document that every schema has.
#[derive(Deserialize)]
struct Schema {
    schema: u32,
}

/// The file content for `set`.
///
/// # Errors
/// [`StoreError::InvalidNext`] when the result could not be loaded again.
pub(super) fn encode(
    path: &Path,
    set: &KeySet,
    keyring: &Keyring,
) -> Result<Generation, StoreError> {
    let invalid = |rule: String| StoreError::InvalidNext { rule };
    let document = serde_json::value::to_raw_value(set).map_err(|e| invalid(e.to_string()))?;
    let input = document_input(&set.issuer, set.revision, &document);
    let mac = keyring.mac(Purpose::Doc, &input);
    let bytes = line(&KeySetEnvelope {
        format: KEY_SET_FORMAT.to_owned(),
        issuer: set.issuer.clone(),
        revision: set.revision,
        kek: mac.kek,
        mac: mac.code,
        document,
    });
    // A set that breaks a rule of the document would be found out at the next start, when it is
    // too late. So what is written has been read first.
    let read_back = decode(path, bytes, &set.issuer, keyring);
    let generation = read_back.map_err(|error| match error {
        StoreError::Corrupt { rule, .. } => invalid(rule),
        other => invalid(other.to_string()),
    })?;
    if generation.bytes.len() as u64 > MAX_DOCUMENT_BYTES {
        return Err(invalid("it is longer than 16 MiB".to_owned()));
    }
    if generation.set != *set {
        return Err(invalid("it differs when it is read back".to_owned()));
    }
    Ok(generation)
}

/// The key set of `issuer` in a file's content.
///
/// # Errors
/// [`StoreError`] naming the violated rule.
pub(super) fn decode(
    path: &Path,
    bytes: Vec<u8>,
    issuer: &str,
    keyring: &Keyring,
) -> Result<Generation, StoreError> {
    if bytes.is_empty() {
        return Err(corrupt(path, "it is empty"));
    }
    let envelope: KeySetEnvelope = parse(path, &bytes)?;
    if envelope.format != KEY_SET_FORMAT {
        return Err(wrong_format(path, &envelope.format, KEY_SET_FORMAT));
    }
    let input = document_input(&envelope.issuer, envelope.revision, &envelope.document);
    keyring
        .check_mac(&envelope.kek, Purpose::Doc, &input, &envelope.mac)
        .map_err(|error| refused(path, &envelope.kek, error))?;
    if line(&envelope) != bytes {
        return Err(not_canonical(path));
    }
    if envelope.issuer != issuer {
        return Err(StoreError::WrongIssuer {
            path: path.to_owned(),
            stored: envelope.issuer,
            configured: issuer.to_owned(),
        });
    }
    let document = envelope.document.get().as_bytes();
    let Schema { schema } = parse(path, document)?;
    if schema > SCHEMA {
        return Err(StoreError::NewerSchema {
            path: path.to_owned(),
            found: schema,
            reads: SCHEMA,
        });
    }
    let set: KeySet = parse(path, document)?;
    if set.issuer != envelope.issuer || set.revision != envelope.revision {
        return Err(corrupt(
            path,
            "issuer and revision outside and inside the document differ",
        ));
    }
    Ok(Generation {
        set,
        kek: envelope.kek,
        bytes,
    })
}

/// The file content for a document beside the key set.
pub(super) fn encode_side(
    name: SideDocument,
    issuer: &str,
    data: &[u8],
    keyring: &Keyring,
) -> Vec<u8> {
    let mac = keyring.mac(Purpose::Side, &side_input(name, issuer, data));
    line(&SideEnvelope {
        format: SIDE_FORMAT.to_owned(),
        issuer: issuer.to_owned(),
        name,
        kek: mac.kek,
        mac: mac.code,
        data: URL_SAFE_NO_PAD.encode(data),
    })
}

/// The document `name` of `issuer` in a file's content.
///
/// # Errors
/// [`StoreError`] naming the violated rule.
pub(super) fn decode_side(
    path: &Path,
    bytes: &[u8],
    name: SideDocument,
    issuer: &str,
    keyring: &Keyring,
) -> Result<Side, StoreError> {
    if bytes.is_empty() {
        return Err(corrupt(path, "it is empty"));
    }
    let envelope: SideEnvelope = parse(path, bytes)?;
    if envelope.format != SIDE_FORMAT {
        return Err(wrong_format(path, &envelope.format, SIDE_FORMAT));
    }
    let data = URL_SAFE_NO_PAD
        .decode(&envelope.data)
        .map_err(|_not_base64url| corrupt(path, "its data is not base64url"))?;
    let input = side_input(envelope.name, &envelope.issuer, &data);
    keyring
        .check_mac(&envelope.kek, Purpose::Side, &input, &envelope.mac)
        .map_err(|error| refused(path, &envelope.kek, error))?;
    if line(&envelope) != bytes {
        return Err(not_canonical(path));
    }
    if envelope.name != name {
        return Err(tampered(path, "it is another document, renamed"));
    }
    if envelope.issuer != issuer {
        return Err(StoreError::WrongIssuer {
            path: path.to_owned(),
            stored: envelope.issuer,
            configured: issuer.to_owned(),
        });
    }
    Ok(Side {
        data,
        kek: envelope.kek,
    })
}

pub(super) fn corrupt(path: &Path, rule: impl Into<String>) -> StoreError {
    StoreError::Corrupt {
        path: path.to_owned(),
        rule: rule.into(),
    }
}

pub(super) fn tampered(path: &Path, rule: impl Into<String>) -> StoreError {
    StoreError::Tampered {
        path: path.to_owned(),
        rule: rule.into(),
    }
}

fn parse<'a, T: Deserialize<'a>>(path: &Path, bytes: &'a [u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| corrupt(path, error.to_string()))
}

fn wrong_format(path: &Path, found: &str, expected: &str) -> StoreError {
    corrupt(
        path,
        format!("its format is {found:?}, this version reads {expected:?}"),
    )
}

fn not_canonical(path: &Path) -> StoreError {
    tampered(
        path,
        "its text is not the one that is written for its content",
    )
}

fn refused(path: &Path, kek: &str, error: MacError) -> StoreError {
    match error {
        MacError::NoKey => StoreError::NoKey {
            path: path.to_owned(),
            kek: kek.to_owned(),
        },
        MacError::Mismatch => tampered(path, "its authentication code does not match its content"),
    }
}

/// What the code of a key set document covers.
fn document_input(issuer: &str, revision: u64, document: &RawValue) -> Vec<u8> {
    framed(&[
        issuer.as_bytes(),
        &revision.to_be_bytes(),
        document.get().as_bytes(),
    ])
}

/// What the code of a side document covers.
fn side_input(name: SideDocument, issuer: &str, data: &[u8]) -> Vec<u8> {
    framed(&[name.as_str().as_bytes(), issuer.as_bytes(), data])
}

fn line(envelope: &impl Serialize) -> Vec<u8> {
    // Serialising strings and numbers into a Vec cannot fail.
    let mut bytes = serde_json::to_vec(envelope).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests {
    use super::super::conformance::Samples;
    use super::*;

    /// The file of `set` as a version would write it whose schema is `schema`.
    fn of_schema(set: &KeySet, keyring: &Keyring, schema: u32) -> Vec<u8> {
        let mut value = serde_json::to_value(set).unwrap();
        value["schema"] = schema.into();
        value["what_only_that_version_knows"] = true.into();
        let document = serde_json::value::to_raw_value(&value).unwrap();
        let input = document_input(&set.issuer, set.revision, &document);
        let mac = keyring.mac(Purpose::Doc, &input);
        line(&KeySetEnvelope {
            format: KEY_SET_FORMAT.to_owned(),
            issuer: set.issuer.clone(),
            revision: set.revision,
            kek: mac.kek,
            mac: mac.code,
            document,
        })
    }

    #[test]
    fn a_newer_schema_is_refused_with_both_numbers_and_what_to_do() {
        let samples = Samples::new();
        let path = Path::new("keyset.json");
        let bytes = of_schema(&samples.first(), &samples.keyring, SCHEMA + 1);
        let refused = decode(path, bytes, &samples.issuer, &samples.keyring).unwrap_err();
        assert!(
            matches!(refused, StoreError::NewerSchema { .. }),
            "{refused}"
        );
        let text = refused.to_string();
        for part in [
            format!("schema {}", SCHEMA + 1),
            format!("up to {SCHEMA}"),
            "run that version".to_owned(),
        ] {
            assert!(text.contains(&part), "{text}");
        }
        // Of its own schema, an unknown member is no version's work.
        let bytes = of_schema(&samples.first(), &samples.keyring, SCHEMA);
        let refused = decode(path, bytes, &samples.issuer, &samples.keyring).unwrap_err();
        assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused}");
    }
}
