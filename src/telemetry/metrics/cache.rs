//! The cache of verified tokens: what lookups found, and how much it holds.

use prometheus::{IntCounter, IntGauge, Result};

use super::labels::CacheLookup;
use super::registrar::Registrar;

/// Handles resolved at start.
#[derive(Debug)]
pub(super) struct CacheMetrics {
    hits: IntCounter,
    misses: IntCounter,
    evictions: IntCounter,
    entries: IntGauge,
    bytes: IntGauge,
}

impl CacheMetrics {
    pub(super) fn register(to: &mut Registrar) -> Result<Self> {
        let lookups = to.counters(
            "token_cache_lookups_total",
            "Lookups in the cache of verified tokens, by what they found.",
            &["result"],
        )?;
        Ok(Self {
            hits: lookups.get_metric_with_label_values(&[CacheLookup::Hit.as_str()])?,
            misses: lookups.get_metric_with_label_values(&[CacheLookup::Miss.as_str()])?,
            evictions: to.counter(
                "token_cache_evictions_total",
                "Verified tokens that had to make room for others.",
            )?,
            entries: to.int_gauge(
                "token_cache_entries",
                "Verified tokens that the live keys remember.",
            )?,
            bytes: to.int_gauge(
                "token_cache_bytes",
                "About how many bytes the remembered tokens take.",
            )?,
        })
    }

    pub(super) fn lookup(&self, lookup: CacheLookup) {
        match lookup {
            CacheLookup::Hit => self.hits.inc(),
            CacheLookup::Miss => self.misses.inc(),
            CacheLookup::None => {}
        }
    }

    pub(super) fn show(&self, entries: usize, bytes: u64, evictions: u64) {
        self.entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.evictions
            .inc_by(evictions.saturating_sub(self.evictions.get()));
    }
}
