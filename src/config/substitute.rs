//! `${NAME}` in values: replaced from the environment, once, and only inside scalars, so that what
//! a variable holds can never add keys. Imports only the error type.

use super::error::Broken;

/// Longest value, substitution included.
pub(super) const MAX_VALUE: usize = 4096;

/// Looks environment variables up. Passed in, so that no test depends on the process.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// `text` with each `${NAME}` replaced and each `$$` made a `$`. Any other `$` stays as it is,
/// because hashes are full of them.
pub(super) fn substitute(text: &str, env: Env<'_>) -> Result<String, Broken> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let (name, after) = after.split_once('}').ok_or_else(unfinished)?;
            if !is_variable_name(name) {
                return Err(unfinished());
            }
            out.push_str(&env(name).ok_or_else(|| unset(name))?);
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
        if out.len() > MAX_VALUE {
            return Err(too_long());
        }
    }
    out.push_str(rest);
    if out.len() > MAX_VALUE {
        return Err(too_long());
    }
    Ok(out)
}

/// Whether the value depends on the environment; such values are never printed.
pub(super) fn has_variable(text: &str) -> bool {
    text.contains("${")
}

fn is_variable_name(name: &str) -> bool {
    name.len() <= 128
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
}

fn unset(name: &str) -> Broken {
    Broken::new(
        format!("the environment variable `{name}` is not set"),
        format!(
            "set it (`export {name}=…`), or write `$${{{name}}}` when the text itself is meant"
        ),
    )
}

fn unfinished() -> Broken {
    Broken::new(
        "`${` must be followed by a variable name (A-Z a-z 0-9 _) and `}`",
        "write `${NAME}`, or `$${` when the text itself is meant",
    )
}

fn too_long() -> Broken {
    Broken::new(
        format!("a value has at most {MAX_VALUE} bytes, substituted variables included"),
        "write a shorter value",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "A" => Some("1".to_owned()),
            "B_2" => Some("${A}".to_owned()),
            "LONG" => Some("x".repeat(MAX_VALUE)),
            _ => None,
        }
    }

    #[test]
    fn variables_and_escapes_are_replaced_once() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("${A}", "1"),
            ("a${A}b${A}", "a1b1"),
            ("${B_2}", "${A}"),
            ("$$", "$"),
            ("$${A}", "${A}"),
            ("$argon2id$v=19$x", "$argon2id$v=19$x"),
            ("5$", "5$"),
        ] {
            assert_eq!(substitute(text, &env).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn broken_or_unset_variables_are_named() {
        assert!(
            substitute("x${NO}", &env)
                .unwrap_err()
                .rule
                .contains("`NO` is not set")
        );
        for text in ["${", "${}", "${A", "${1A}", "${A B}", "${é}"] {
            assert!(
                substitute(text, &env)
                    .unwrap_err()
                    .rule
                    .contains("followed by"),
                "{text}"
            );
        }
        assert!(
            substitute("x${LONG}", &env)
                .unwrap_err()
                .rule
                .contains("at most 4096 bytes")
        );
    }
}
