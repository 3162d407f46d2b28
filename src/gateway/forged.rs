//! Limits the sources of forged tokens: asks before a token is verified, counts afterwards.
//!
//! Only what no key of ours has signed counts: `bad_signature`, `unknown_key` where a retired key's
//! signature was looked at, and `malformed` unless a signature was proven. A limited source causes no signature check; what is remembered as checked passes.

use std::net::IpAddr;
use std::time::Duration;

use pingora::proxy::Session;

use crate::token::Rejection;

use super::Gateway;
use super::denial::Denial;

impl Gateway {
    /// How long the source of the request has to wait, when it is limited.
    pub(super) fn forger_waits(&self, session: &Session) -> Option<Duration> {
        let forgers = self.parts.forgers.as_ref()?;
        if forgers.is_quiet() {
            return None;
        }
        forgers.wait(self.source(session)?, self.parts.clock.now())
    }

    /// Counts a forgery, or, when its source is limited, answers it as such.
    pub(super) fn weigh(
        &self,
        session: &Session,
        mut denial: Denial,
        limited: Option<Duration>,
    ) -> Denial {
        let forged = denial.is_forged();
        match limited {
            Some(_) if forged || denial.rejection == Rejection::RateLimited => {
                denial.rejection = Rejection::RateLimited;
            }
            None if forged => {
                if let (Some(forgers), Some(source)) = (&self.parts.forgers, self.source(session)) {
                    forgers.note(source, self.parts.clock.now());
                }
            }
            _ => {}
        }
        denial
    }

    /// Whether a proxy sent the request whose word on where it came from is taken.
    pub(super) fn is_from_proxy(&self, session: &Session) -> bool {
        let peer = session.client_addr().and_then(|peer| peer.as_inet());
        peer.is_some_and(|peer| self.proxies.trusts(peer.ip()))
    }

    /// The address that a request came from; `None` without an internet address.
    fn source(&self, session: &Session) -> Option<IpAddr> {
        let peer = session.client_addr()?.as_inet()?.ip();
        let fields = session
            .req_header()
            .headers
            .get_all("x-forwarded-for")
            .iter();
        Some(
            self.proxies
                .source(peer, fields.map(http::HeaderValue::as_bytes)),
        )
    }
}

impl Denial {
    /// Whether none of our keys signed the token. A malformed one with a named key did pass the
    /// signature: verification looks at nothing behind it before.
    const fn is_forged(&self) -> bool {
        match self.rejection {
            Rejection::BrokenSyntax => true,
            Rejection::Malformed => self.kid.is_none(),
            _ => self.forged,
        }
    }
}
