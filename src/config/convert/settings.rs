//! `limits`, `server` and `log`.

use std::time::Duration;

use crate::config::config::{Listeners, LogFormat, LogSettings, ServerSettings};
use crate::config::error::Broken;
use crate::config::forms::WordOr;
use crate::config::path::KeyPath;
use crate::config::raw::{RawForgedTokens, RawLimits, RawLog, RawServer};
use crate::config::units;
use crate::gateway::limits::{ForgedTokens, Limits};
use crate::token::CacheLimits;

use super::Cx;

/// Most threads of the data path.
const MAX_WORKERS: usize = 20;

/// Most listening sockets: each worker has one per proxy listener, and the table that hands them
/// over to a successor is small.
const MAX_SOCKETS: usize = 24;

pub(super) fn limits(cx: &mut Cx<'_>, raw: RawLimits) -> Limits {
    let at = KeyPath::root().key("limits");
    let default = Limits::default();
    let s = Duration::from_secs;
    let header_timeout = cx.maybe(
        &at.key("header_timeout"),
        raw.header_timeout.as_ref(),
        |text| {
            // 10 s is the promise that a slow header never outlives.
            units::duration_within(text, Duration::from_millis(100), s(10))
        },
    );
    let keepalive_timeout = cx.maybe(
        &at.key("keepalive_timeout"),
        raw.keepalive_timeout.as_ref(),
        |text| units::duration_within(text, s(1), s(3600)),
    );
    let max_header_bytes = cx.maybe(
        &at.key("max_header_bytes"),
        raw.max_header_bytes.as_ref(),
        |text| {
            let bytes = units::size_within(text, 1 << 10, 1 << 20)?;
            // 2^20 at most.
            Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
        },
    );
    let max_header_fields = cx.maybe(
        &at.key("max_header_fields"),
        raw.max_header_fields.as_ref(),
        |text| Ok(units::number_within(text, 10, 256)? as usize),
    );
    let max_body_bytes = cx.maybe(
        &at.key("max_body_bytes"),
        raw.max_body_bytes.as_ref(),
        |text| units::size_within(text, 0, 1 << 40),
    );
    let max_connections_per_address = cx.maybe(
        &at.key("max_connections_per_address"),
        raw.max_connections_per_address.as_ref(),
        |text| units::number_within(text, 1, 1_000_000),
    );
    let allow_underscore_names = cx.maybe(
        &at.key("allow_underscore_names"),
        raw.allow_underscore_names.as_ref(),
        units::boolean,
    );
    let forged_tokens = forged_tokens(cx, &at.key("forged_tokens"), raw.forged_tokens.as_ref());
    Limits {
        header_timeout: header_timeout.unwrap_or(default.header_timeout),
        keepalive_timeout: keepalive_timeout.unwrap_or(default.keepalive_timeout),
        max_header_bytes: max_header_bytes.unwrap_or(default.max_header_bytes),
        max_header_fields: max_header_fields.unwrap_or(default.max_header_fields),
        max_body_bytes: max_body_bytes.unwrap_or(default.max_body_bytes),
        max_connections_per_address: max_connections_per_address
            .unwrap_or(default.max_connections_per_address),
        allow_underscore_names: allow_underscore_names.unwrap_or(default.allow_underscore_names),
        forged_tokens,
    }
}

fn forged_tokens(
    cx: &mut Cx<'_>,
    at: &KeyPath,
    raw: Option<&WordOr<RawForgedTokens>>,
) -> Option<ForgedTokens> {
    let default = ForgedTokens::default();
    let Some(raw) = raw else {
        return Some(default);
    };
    let raw = cx.unless_off(
        at,
        raw,
        "`forged_tokens` is a map, or the word `off`",
        "write `forged_tokens: { burst: 100, per_second: 20 }` or `forged_tokens: off`",
    )?;
    let mut number = |key, raw, most| {
        cx.maybe(&at.key(key), raw, |text| {
            units::number_within(text, 1, most)
        })
    };
    Some(ForgedTokens {
        burst: number("burst", raw.burst.as_ref(), 100_000).unwrap_or(default.burst),
        per_second: number("per_second", raw.per_second.as_ref(), 10_000)
            .unwrap_or(default.per_second),
    })
}

pub(super) fn server(
    cx: &mut Cx<'_>,
    raw: RawServer,
    listeners: Option<&Listeners>,
) -> ServerSettings {
    let at = KeyPath::root().key("server");
    let proxies = listeners
        .map_or(1, |listeners| listeners.proxy.len())
        .max(1);
    let others = 1 + usize::from(listeners.is_none_or(|listeners| listeners.metrics.is_some()));
    let sharding = cx.maybe(&at.key("sharding"), raw.sharding.as_ref(), units::boolean);
    let sharding = sharding.unwrap_or(true);
    let room = if sharding {
        (MAX_SOCKETS.saturating_sub(others) / proxies).clamp(1, MAX_WORKERS)
    } else {
        MAX_WORKERS
    };
    let workers_at = at.key("workers");
    let workers = cx.maybe(&workers_at, raw.workers.as_ref(), |text| {
        if text == "auto" {
            return Ok(None);
        }
        let number = units::number_within(text, 1, 20).map_err(|broken| Broken {
            rule: "`auto` or a whole number from 1 to 20".into(),
            ..broken
        })?;
        Ok(Some(number as usize))
    });
    let workers = workers.flatten();
    if workers.is_some_and(|workers| workers > room) {
        let rule = format!(
            "workers × proxy listeners + other listeners ≤ {MAX_SOCKETS} sockets; with {proxies} proxy listeners and {others} others at most {room} workers"
        );
        cx.refuse(
            &workers_at,
            raw.workers.as_ref(),
            rule,
            "write fewer workers, or `auto`",
        );
    }
    let grace = cx.maybe(
        &at.key("shutdown_grace"),
        raw.shutdown_grace.as_ref(),
        |text| units::duration_within(text, Duration::ZERO, Duration::from_secs(600)),
    );
    let entries = cx.maybe(
        &at.key("token_cache_entries"),
        raw.token_cache_entries.as_ref(),
        |text| Ok(units::number_within(text, 0, 10_000_000)? as usize),
    );
    let bytes = cx.maybe(
        &at.key("token_cache_bytes"),
        raw.token_cache_bytes.as_ref(),
        |text| units::size_within(text, 0, 1 << 40),
    );
    let default = CacheLimits::default();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    ServerSettings {
        workers: workers.unwrap_or_else(|| cores.min(room)),
        sharding,
        shutdown_grace: grace.unwrap_or(Duration::from_secs(30)),
        token_cache: CacheLimits {
            entries: entries.unwrap_or(default.entries),
            bytes: bytes.unwrap_or(default.bytes),
        },
    }
}

pub(super) fn log(cx: &mut Cx<'_>, raw: RawLog) -> LogSettings {
    let known = [
        ("auto", LogFormat::Auto),
        ("json", LogFormat::Json),
        ("human", LogFormat::Human),
    ];
    let at = KeyPath::root().key("log");
    let format = cx.maybe(&at.key("format"), raw.format.as_ref(), |text| {
        units::word(text, &known)
    });
    let ring_lines = cx.maybe(&at.key("ring_lines"), raw.ring_lines.as_ref(), |text| {
        Ok(units::number_within(text, 0, 100_000)? as usize)
    });
    LogSettings {
        format: format.unwrap_or(LogFormat::Auto),
        ring_lines: ring_lines.unwrap_or(2000),
    }
}
