//! What `docs/metrics.md` says of each metric beyond what the registry knows: unit, fine print, an
//! example query, and why a histogram has the buckets that it has. For tests alone: the document is
//! made from this and from the registry, see [`super::document`].

mod operation;
mod requests;

/// A chapter of the document.
pub(super) struct Chapter {
    pub(super) title: &'static str,
    /// What holds for all of it; may be empty.
    pub(super) intro: &'static str,
    pub(super) entries: &'static [Entry],
}

/// One metric.
pub(super) struct Entry {
    /// Its full name.
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    /// What its help text leaves out; may be empty.
    pub(super) more: &'static str,
    /// What the example answers; may be empty when the query says it.
    pub(super) asks: &'static str,
    /// A query that answers with at least one series while a gateway is scraped.
    pub(super) query: &'static str,
    /// Why a histogram has its buckets; empty for everything else.
    pub(super) buckets: &'static str,
}

const fn entry(
    name: &'static str,
    unit: &'static str,
    more: &'static str,
    asks: &'static str,
    query: &'static str,
) -> Entry {
    Entry {
        name,
        unit,
        more,
        asks,
        query,
        buckets: "",
    }
}

const fn histogram(
    name: &'static str,
    more: &'static str,
    asks: &'static str,
    query: &'static str,
    buckets: &'static str,
) -> Entry {
    Entry {
        name,
        unit: "seconds",
        more,
        asks,
        query,
        buckets,
    }
}

/// In the order of the document.
pub(super) const CHAPTERS: &[Chapter] = &[
    requests::TRAFFIC,
    requests::ACCESS,
    requests::PURGES,
    operation::KEYS,
    operation::ISSUER,
    operation::PROGRAM,
];
