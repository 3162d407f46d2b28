//! The `Idempotency-Key` header: what it claims, and that one attempt runs at a time.
//!
//! Results are kept in the key set itself (see `keys::idempotency`); here is only what lives as
//! long as the process.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use ring::digest::{SHA256, digest};

use crate::keys::IdempotencyKey;
use crate::keys::idempotency::{Claim, IdempotencyKeyError};

use super::error::ApiError;

const HEADER: &str = "idempotency-key";

/// Calls with an idempotency key that have not answered yet.
#[derive(Debug, Default)]
pub struct RunningCalls(Mutex<HashSet<Call>>);

type Call = (String, String, IdempotencyKey);

/// A call that is running, until dropped.
#[derive(Debug)]
pub(super) struct Running {
    calls: Arc<RunningCalls>,
    call: Call,
}

/// What the request claims, if it has an idempotency key.
pub(super) fn claim(
    headers: &HeaderMap,
    operation: &str,
    body: &[u8],
) -> Result<Option<Claim>, ApiError> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let bad = |rule: &str| ApiError::bad_header("Idempotency-Key", rule);
    if values.next().is_some() {
        return Err(bad("send it once"));
    }
    let key = value
        .to_str()
        .map_err(|_not_ascii| IdempotencyKeyError)
        .and_then(str::parse)
        .map_err(|error: IdempotencyKeyError| bad(&error.to_string()))?;
    Ok(Some(Claim {
        key,
        operation: operation.to_owned(),
        body_digest: URL_SAFE_NO_PAD.encode(digest(&SHA256, body)),
    }))
}

impl RunningCalls {
    /// Enters a call; refused while the same one runs.
    pub(super) fn enter(self: &Arc<Self>, actor: &str, claim: &Claim) -> Result<Running, ApiError> {
        let call = (actor.to_owned(), claim.operation.clone(), claim.key.clone());
        if self.lock().insert(call.clone()) {
            Ok(Running {
                calls: Arc::clone(self),
                call,
            })
        } else {
            Err(ApiError::still_running())
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<Call>> {
        // A set of names is valid whatever panicked elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.calls.lock().remove(&self.call);
    }
}
