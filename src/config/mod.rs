//! The configuration file: read once, checked as a whole, turned into a [`Config`].
//!
//! ```text
//! text ─▶ tree ─▶ schema ─▶ raw ─▶ convert ─▶ Config
//!         YAML,   unknown   serde   values, rules,
//!         bounds  keys              relations
//! ```
//! Each step reports everything it finds, and the next one runs only when nothing was found: a
//! misspelt key would otherwise be reported as a missing one as well. `locate` turns key paths
//! into lines. Only this folder knows YAML. Reads no file but the configuration itself: secrets
//! are named here and read by those who need them. Layer 5; may import anything below.

#[expect(
    clippy::module_inception,
    reason = "the folder holds the way to it, this file the result"
)]
mod config;
mod convert;
mod error;
mod forms;
mod locate;
mod names;
mod net;
mod path;
mod raw;
mod schema;
mod substitute;
mod suggest;
mod summary;
mod table;
mod tree;
mod units;
mod urls;
mod warnings;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

pub use config::{
    AdminListener, AdminToken, AdminTokenSource, ClientSecretSource, Config, Issuer, Keys,
    Listeners, LogFormat, LogSettings, MetricsListener, PlainText, ProxyListener, Role,
    ServerSettings, Serves, StaticClient, StoreSettings, TlsFiles,
};
pub use error::{ConfigError, ConfigErrors};
pub use net::Cidr;

use error::{Broken, Finding, MAX_SHOWN};
use raw::RawConfig;
use schema::Shaped as _;
use substitute::Env;
use tree::Node;

/// Largest configuration file.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

impl Config {
    /// Reads and checks the file at `path`; `env` looks up the variables of `${NAME}`.
    ///
    /// # Errors
    /// Everything that is wrong with it; also when it cannot be read.
    pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        let mut bytes = Vec::new();
        let read =
            File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
        if let Err(error) = read {
            return Err(ConfigErrors::whole_file(
                path.to_path_buf(),
                None,
                format!("the configuration file must be readable: {error}"),
                unreadable_fix(error.kind()),
            ));
        }
        match String::from_utf8(bytes) {
            Ok(text) => Self::parse(&text, path, env),
            Err(error) => {
                let good = error.utf8_error().valid_up_to();
                let before = error.as_bytes().get(..good).unwrap_or_default();
                let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
                Err(ConfigErrors::whole_file(
                    path.to_path_buf(),
                    Some(line),
                    "the configuration file must be UTF-8 text",
                    "save it as UTF-8",
                ))
            }
        }
    }

    /// Checks a configuration text; `source` is the file name for messages.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str, source: &Path, env: Env<'_>) -> Result<Self, ConfigErrors> {
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(ConfigErrors::whole_file(
                source.to_path_buf(),
                None,
                "the configuration file has at most 1MiB",
                "check that this is the right file",
            ));
        }
        let raw = read(text, source)?;
        convert::config(raw, source, env).map_err(|found| located(text, source, found))
    }
}

/// Every key that a configuration file may hold, as a pattern: `listeners.proxy[].address`,
/// `upstreams.*.endpoints`.
#[must_use]
pub fn known_keys() -> Vec<String> {
    schema::patterns(RawConfig::SHAPE)
}

fn read(text: &str, source: &Path) -> Result<RawConfig, ConfigErrors> {
    let not_yaml = |line, reason: &str| {
        let rule = format!("the file must be one YAML document: {reason}");
        let fix = "check indentation, quotes and brackets in this line and the one above";
        ConfigErrors::whole_file(source.to_path_buf(), line, rule, fix)
    };
    let document = tree::read(text).map_err(|refused| not_yaml(refused.line, &refused.reason))?;
    if document.root == Node::Null {
        return Err(ConfigErrors::whole_file(
            source.to_path_buf(),
            None,
            "the configuration file is empty",
            "start from conf/portcullis.yaml",
        ));
    }
    let repeated = document.repeated.iter().map(|at| Finding {
        second: true,
        ..Finding::new(
            at,
            Broken::new("a key stands only once", "remove one of the two"),
        )
    });
    let mut found: Vec<Finding> = repeated.collect();
    found.extend(schema::misfits(&document.root, RawConfig::SHAPE));
    if !found.is_empty() {
        return Err(located(text, source, found));
    }
    // What passed the schema deserialises; should the two ever differ, serde has the last word.
    serde_yaml::from_str(text)
        .map_err(|error| not_yaml(error.location().map(|at| at.line()), &error.to_string()))
}

/// Findings with their lines, in the order of the lines.
fn located(text: &str, source: &Path, found: Vec<Finding>) -> ConfigErrors {
    let omitted = found.len().saturating_sub(MAX_SHOWN);
    let mut errors: Vec<ConfigError> = found
        .into_iter()
        .take(MAX_SHOWN)
        .map(
            |Finding {
                 at,
                 second,
                 value,
                 broken,
             }| {
                let line = locate::line(text, &at, second);
                ConfigError::new(source.to_path_buf(), line, &at, value, &broken)
            },
        )
        .collect();
    errors.sort_by_key(|error| error.line);
    ConfigErrors { errors, omitted }
}

fn unreadable_fix(kind: io::ErrorKind) -> &'static str {
    if kind == io::ErrorKind::NotFound {
        "give the path of an existing file with `--config`"
    } else {
        "give the path of a file that this user may read with `--config`"
    }
}
