//! What all listeners have in common: an address of their own, TLS files, and the rule that secrets
//! do not cross a network in plain text.

use std::net::SocketAddr;

use crate::config::config::{PlainText, TlsFiles};
use crate::config::forms::Scalar;
use crate::config::net::{Cidr, is_loopback, overlap};
use crate::config::path::KeyPath;
use crate::config::raw::RawTls;
use crate::config::{names, suggest, units};

use super::Cx;

/// An address, and where and how it is written.
pub(super) struct Place<'a> {
    pub(super) address: SocketAddr,
    pub(super) at: &'a KeyPath,
    pub(super) raw: Option<&'a Scalar>,
}

/// The addresses so far, with the keys that hold them.
#[derive(Default)]
pub(super) struct Taken(Vec<(SocketAddr, KeyPath)>);

impl Taken {
    /// Reports a place where binding gets in the way of an earlier one.
    pub(super) fn add(&mut self, cx: &mut Cx<'_>, place: &Place<'_>) {
        let earlier = self
            .0
            .iter()
            .find(|(other, _)| overlap(*other, place.address));
        if let Some((_, other)) = earlier {
            let rule = format!(
                "each listener has an address of its own; `{other}` takes this one already"
            );
            cx.refuse(place.at, place.raw, rule, "write another port or address");
        }
        self.0.push((place.address, place.at.clone()));
    }
}

pub(super) fn tls(cx: &mut Cx<'_>, raw: &RawTls, at: &KeyPath) -> Option<TlsFiles> {
    let cert = cx.required(
        &at.key("cert_file"),
        raw.cert_file.as_ref(),
        "write the PEM certificate chain: `cert_file: tls/cert.pem`",
        names::file,
    );
    let key = cx.required(
        &at.key("key_file"),
        raw.key_file.as_ref(),
        "write the PEM private key: `key_file: tls/key.pem`",
        names::file,
    );
    let client_ca_file = cx.maybe(
        &at.key("client_ca_file"),
        raw.client_ca_file.as_ref(),
        names::file,
    );
    Some(TlsFiles {
        cert_file: cert?,
        key_file: key?,
        client_ca_file,
    })
}

/// The two ways to say that plain text is meant; each contradicts TLS and the other one.
pub(super) fn plain_text(
    cx: &mut Cx<'_>,
    at: &KeyPath,
    has_tls: bool,
    insecure: Option<&Scalar>,
    behind: Option<&Vec<Scalar>>,
) -> PlainText {
    let insecure_at = at.key("insecure");
    let behind_at = at.key("behind_tls_proxy");
    // A misspelt word was meant as `true`: without it there is no reason to write the key.
    let is_insecure =
        insecure.is_some() && cx.maybe(&insecure_at, insecure, units::boolean) != Some(false);
    let networks = cx.list(&behind_at, behind, 64, Cidr::parse);
    if behind.is_some_and(Vec::is_empty) {
        cx.refuse(
            &behind_at,
            None,
            "`behind_tls_proxy` names at least one network",
            "write the addresses that the TLS proxy connects from, such as `[10.0.0.7/32]`",
        );
    }
    let said = [
        (has_tls, "tls"),
        (behind.is_some(), "behind_tls_proxy"),
        (is_insecure, "insecure: true"),
    ];
    let said: Vec<&str> = said
        .into_iter()
        .filter_map(|(is, name)| is.then_some(name))
        .collect();
    if said.len() > 1 {
        let last = if is_insecure {
            &insecure_at
        } else {
            &behind_at
        };
        let rule = format!("{} contradict each other", suggest::listed(&said));
        cx.refuse(last, None, rule, "keep the one that is meant");
    }
    match behind {
        Some(_) => PlainText::BehindTlsProxy(networks),
        None if is_insecure => PlainText::Insecure,
        None => PlainText::Unstated,
    }
}

/// Reports a listener without TLS that takes secrets on an address which others can reach, unless
/// the file says that this is meant.
pub(super) fn secrets_need_tls(
    cx: &mut Cx<'_>,
    place: &Place<'_>,
    plain_text: &PlainText,
    what: &str,
) {
    if is_loopback(place.address) || *plain_text != PlainText::Unstated {
        return;
    }
    let rule = format!("{what}, so an address that is not loopback needs `tls`");
    let fix = "add `tls: { cert_file: …, key_file: … }`, or listen on 127.0.0.1; where another TLS proxy stands \
               in front, name its network in `behind_tls_proxy: [10.0.0.7/32]`; for trials only: `insecure: true`";
    cx.refuse(place.at, place.raw, rule, fix);
}
