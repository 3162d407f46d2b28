//! `access_log` and `tracing`.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::error::Broken;
use crate::config::forms::{Scalar, WordOr};
use crate::config::path::KeyPath;
use crate::config::raw::{RawAccessLog, RawOtlp, RawTracing};
use crate::config::{units, urls};
use crate::telemetry::{AccessFormat, AccessLogSettings, AccessTarget, SampleRate, TraceSettings};

use super::Cx;

/// Share of the traces that begin here and are recorded.
const DEFAULT_RATIO: f64 = 0.1;

/// For one delivery to a collector; what the protocol's own exporters wait.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn access_log(
    cx: &mut Cx<'_>,
    raw: Option<&WordOr<RawAccessLog>>,
) -> Option<AccessLogSettings> {
    let at = KeyPath::root().key("access_log");
    let raw = cx.unless_off(
        &at,
        raw?,
        "`access_log` is a map, or the word `off`",
        "write `access_log: { format: json, target: stdout }` or `access_log: off`",
    )?;
    let known = [
        ("json", AccessFormat::Json),
        ("common", AccessFormat::Common),
    ];
    let format = cx.maybe(&at.key("format"), raw.format.as_ref(), |text| {
        units::word(text, &known)
    });
    let target = cx.maybe(&at.key("target"), raw.target.as_ref(), target);
    let sample_successes = share(
        cx,
        &at.key("sample_successes"),
        raw.sample_successes.as_ref(),
    );
    Some(AccessLogSettings {
        format: format.unwrap_or(AccessFormat::Json),
        target: target.unwrap_or(AccessTarget::Stdout),
        sample_successes: sample_successes.unwrap_or(SampleRate::ALL),
    })
}

pub(super) fn tracing(cx: &mut Cx<'_>, raw: Option<&WordOr<RawTracing>>) -> Option<TraceSettings> {
    const EXAMPLE: &str = "write `tracing: { otlp: { endpoint: \"http://127.0.0.1:4318\" } }`";
    let at = KeyPath::root().key("tracing");
    let raw = cx.unless_off(&at, raw?, "`tracing` is a map, or the word `off`", EXAMPLE)?;
    let ratio = share(cx, &at.key("sample_ratio"), raw.sample_ratio.as_ref())
        .or_else(|| SampleRate::new(DEFAULT_RATIO));
    let at = at.key("otlp");
    let Some(otlp) = &raw.otlp else {
        cx.missing(&at, EXAMPLE);
        return None;
    };
    collector(cx, &at, otlp, ratio.unwrap_or(SampleRate::ALL))
}

fn collector(
    cx: &mut Cx<'_>,
    at: &KeyPath,
    raw: &RawOtlp,
    sample_ratio: SampleRate,
) -> Option<TraceSettings> {
    let endpoint_at = at.key("endpoint");
    let endpoint = cx.required(
        &endpoint_at,
        raw.endpoint.as_ref(),
        "write the collector's address, such as `http://127.0.0.1:4318`",
        urls::collector,
    );
    cx.maybe(&at.key("protocol"), raw.protocol.as_ref(), protocol);
    let file = |cx: &mut Cx<'_>, key, raw| cx.maybe(&at.key(key), raw, path);
    let headers_file = file(cx, "headers_file", raw.headers_file.as_ref());
    let ca_file = file(cx, "ca_file", raw.ca_file.as_ref());
    let timeout = cx.maybe(&at.key("timeout"), raw.timeout.as_ref(), |text| {
        units::duration_within(text, Duration::from_millis(100), Duration::from_secs(60))
    });
    let endpoint = endpoint?;
    if endpoint.starts_with("https://") && raw.ca_file.is_none() {
        let fix =
            "name the system's bundle, often `/etc/ssl/certs/ca-certificates.crt`, or your own";
        cx.missing(&at.key("ca_file"), fix);
    }
    Some(TraceSettings {
        endpoint,
        headers_file,
        ca_file,
        timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
        sample_ratio,
    })
}

fn share(cx: &mut Cx<'_>, at: &KeyPath, raw: Option<&Scalar>) -> Option<SampleRate> {
    cx.maybe(at, raw, |text| {
        // No sign, no exponent, no `inf`.
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        text.parse()
            .ok()
            .filter(|_| is_plain)
            .and_then(SampleRate::new)
            .ok_or_else(|| {
                Broken::new(
                    "a number from 0 to 1",
                    "write for example `1` for all of them, `0.01` for one in a hundred, `0` for none",
                )
            })
    })
}

fn target(text: &str) -> Result<AccessTarget, Broken> {
    match text {
        "stdout" => Ok(AccessTarget::Stdout),
        // A misspelt word must not become a file of that name.
        _ if text.contains('/') => Ok(AccessTarget::File(text.into())),
        _ => Err(Broken::new(
            "the word `stdout`, or the path of a file with a `/` in it",
            "write `stdout`, `./access.log` or `/var/log/portcullis/access.log`",
        )),
    }
}

fn path(text: &str) -> Result<PathBuf, Broken> {
    if text.is_empty() {
        return Err(Broken::new(
            "a path names a file",
            "write the path, or remove the key",
        ));
    }
    Ok(text.into())
}

fn protocol(text: &str) -> Result<(), Broken> {
    match text {
        "http/protobuf" => Ok(()),
        "grpc" => Err(Broken::new(
            "`http/protobuf` is the one protocol that this version speaks",
            "write the collector's HTTP port, usually 4318, and leave `protocol` out",
        )),
        _ => units::word(text, &[("http/protobuf", ())]),
    }
}
