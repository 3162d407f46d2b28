//! The URLs of the issuer and of a collector, and the hosts and paths of routes: text → value, each with its rule. Imports
//! only the error type, `net` and `units`.

use super::error::Broken;
use super::net::is_host;
use super::units;

/// The issuer: `http(s)://host[:port][/path]`.
pub(super) fn issuer_url(text: &str) -> Result<String, Broken> {
    const RULE: &str = "the issuer is an absolute http or https URL without user, query, fragment and slash at its end";
    let wrong = |fix: &'static str| Err(Broken::new(RULE, fix));
    let Some(rest) = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
    else {
        return wrong("begin it with `https://` (or `http://` for trials)");
    };
    if text.len() > 512 {
        return wrong("write an URL of at most 512 characters");
    }
    if rest.contains(['?', '#']) {
        return wrong("remove the query or fragment (RFC 8414 §2)");
    }
    if rest.ends_with('/') {
        return wrong("remove the slash at its end: clients compare the `iss` claim byte for byte");
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains('@') {
        return wrong("remove the user and password");
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let port_is_good = port.is_none_or(|port| units::digits::<u16>(port).is_some_and(|p| p != 0));
    if !port_is_good || !is_host(host) || host.bytes().any(|b| b.is_ascii_uppercase()) {
        return wrong(
            "write a lower-case host name or an IP address, and a port from 1 to 65535 if any",
        );
    }
    if !path.is_empty() {
        canonical_path(path)?;
        let has_meaning = |segment: &str| segment.starts_with([':', '*']);
        if path.split('/').any(has_meaning) || path.contains(['{', '}']) {
            return wrong(
                "begin no segment of its path with `:` or `*`, and leave out `{` and `}`: they stand for others in the paths of its endpoints",
            );
        }
    }
    Ok(text.to_owned())
}

/// A collector of traces: `http(s)://host[:port][/path]`, completed by the path that the protocol
/// names when there is none.
pub(super) fn collector(text: &str) -> Result<String, Broken> {
    const RULE: &str =
        "an absolute http or https URL without user, query and fragment, at most 512 characters";
    let wrong = |fix: &'static str| Err(Broken::new(RULE, fix));
    let Some(rest) = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
    else {
        return wrong("begin it with `http://` or `https://`");
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains('@') {
        return wrong("put credentials into a `headers_file`");
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let port_is_good = port.is_none_or(|port| units::digits::<u16>(port).is_some_and(|p| p != 0));
    if text.len() > 512 || !port_is_good || !is_host(host) {
        return wrong("write a host name or an IP address, and a port from 1 to 65535 if any");
    }
    if !path
        .bytes()
        .all(|b| b.is_ascii_graphic() && b != b'?' && b != b'#')
    {
        return wrong("remove the query, the fragment, spaces and what is not ASCII");
    }
    Ok(match path {
        "" | "/" => format!("{}/v1/traces", text.trim_end_matches('/')),
        _ => text.to_owned(),
    })
}

/// The host a route takes: `None` for `*`, otherwise in lower case.
pub(super) fn host_pattern(text: &str) -> Result<Option<String>, Broken> {
    if text == "*" {
        return Ok(None);
    }
    if is_host(text) {
        return Ok(Some(text.to_ascii_lowercase()));
    }
    Err(Broken::new(
        "a host is `*`, a DNS name or an IP address, without a port",
        "write the host that clients ask for, or leave the key out for every host",
    ))
}

/// An exact path.
pub(super) fn path(text: &str) -> Result<String, Broken> {
    canonical_path(text)?;
    Ok(text.to_owned())
}

/// A path prefix, which ends on a segment border without saying so.
pub(super) fn prefix(text: &str) -> Result<String, Broken> {
    canonical_path(text)?;
    match text.strip_suffix('/') {
        None | Some("") => Ok(text.to_owned()),
        Some(without) => Err(Broken::new(
            "a prefix other than `/` does not end with a slash",
            format!("write `{without}`: it takes that path and everything below it"),
        )),
    }
}

/// Refuses every path that two readers could understand differently. Requests are brought into
/// this form, and then both into the plain form in which they are compared.
fn canonical_path(text: &str) -> Result<(), Broken> {
    let wrong = |rule: &'static str, fix: &'static str| Err(Broken::new(rule, fix));
    if !text.starts_with('/') {
        return wrong("a path starts with `/`", "put a `/` in front");
    }
    if text.len() > 1024 {
        return wrong("a path has at most 1024 bytes", "write a shorter path");
    }
    if text.contains(['?', '#', ';']) {
        return wrong(
            "a path holds no `?`, `#` and `;`",
            "write the path alone: query and parameters take no part in matching",
        );
    }
    if text.contains("//") {
        return wrong("a path has no empty segment (`//`)", "write a single `/`");
    }
    if text.split('/').any(|segment| matches!(segment, "." | "..")) {
        return wrong(
            "a path has no dot segments (`.`, `..`)",
            "write the path that they lead to",
        );
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()*+,=:@%".contains(&b);
    if !text.bytes().all(plain) {
        return wrong(
            "a path holds only the characters that a URL path may hold (RFC 3986 §3.3)",
            "percent-encode what is not ASCII, with upper-case digits: `%C3%A9`",
        );
    }
    let encoded_well = text.split('%').skip(1).all(|after| match after.as_bytes() {
        [high, low, ..] => is_canonical_escape(*high, *low),
        _ => false,
    });
    if !encoded_well {
        return wrong(
            "percent-encoding is `%` and two upper-case hexadecimal digits, and never hides a plain, special or control character",
            "write letters, digits, `-._~` and `/` as they are; `%2F %5C %2E %25 %3B %3F %23 %00` match nothing",
        );
    }
    Ok(())
}

/// Whether the byte behind `%` may be written encoded, and is written in upper case.
fn is_canonical_escape(high: u8, low: u8) -> bool {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    };
    let (Some(high), Some(low)) = (digit(high), digit(low)) else {
        return false;
    };
    let byte = high * 16 + low;
    let unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    !unreserved && !byte.is_ascii_control() && !b"/\\%;?#".contains(&byte)
}
