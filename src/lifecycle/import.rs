//! Import: a signing key of a former system goes on verifying, or goes on signing.

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::keygen::import::ForeignKey;
use crate::keys::legacy::LegacyError;
use crate::keys::transition::{self, Imported, Order};
use crate::keys::{KeySet, Kid, LegacyRules, SealedPrivate};

use super::step::MAX_ATTEMPTS;
use super::{Lifecycle, LifecycleError};

/// A key to take over.
#[derive(Debug)]
pub struct ImportCommand {
    /// The key; one that is to sign has its private half.
    pub key: ForeignKey,
    /// The name that its tokens carry; its thumbprint by default.
    pub kid: Option<Kid>,
    /// Longest life time of the tokens that the former system issued.
    pub max_ttl: Duration,
    /// What those tokens look like.
    pub legacy: LegacyRules,
    /// Whether it is to sign here from now on.
    pub active: bool,
}

impl Lifecycle {
    /// The rules of a former system's tokens: its audience stands for every audience of this
    /// issuer.
    ///
    /// # Errors
    /// [`LegacyError`] naming the part that is out of bounds.
    pub fn legacy_rules(
        &self,
        issuer: Option<String>,
        audience: Option<String>,
        typ: Option<String>,
    ) -> Result<LegacyRules, LegacyError> {
        let means = match &audience {
            Some(_) => self.policy.audience.clone(),
            None => Vec::new(),
        };
        LegacyRules::new(issuer, audience, means, typ)
    }

    /// Takes over a key. The private half is kept only if it is to sign.
    ///
    /// # Errors
    /// [`LifecycleError`]; then the keys are as before.
    pub async fn import(
        &self,
        order: &Order,
        command: ImportCommand,
    ) -> Result<KeySet, LifecycleError> {
        let ForeignKey {
            thumbprint,
            alg,
            jwk,
            private_pkcs8,
        } = command.key;
        let private = private_pkcs8.filter(|_| command.active);
        let mut imported = Imported {
            kid: command.kid.unwrap_or_else(|| thumbprint.clone()),
            thumbprint,
            alg,
            jwk,
            max_ttl: command.max_ttl,
            legacy: command.legacy,
            signs: None,
        };
        let timing = &self.policy.timing;
        for _attempt in 0..MAX_ATTEMPTS {
            let loaded = self.load().await?;
            if let Some(private) = &private {
                imported.signs = Some(self.seal(&imported, private, loaded.set.revision)?);
            }
            let (next, _) =
                transition::import(&loaded.set, &imported, order, timing, loaded.store_now)?;
            if self.commit(&loaded.set, next.clone()).await? {
                return Ok(next);
            }
        }
        Err(LifecycleError::Contention(MAX_ATTEMPTS))
    }

    fn seal(
        &self,
        imported: &Imported,
        private: &Zeroizing<Vec<u8>>,
        base_revision: u64,
    ) -> Result<SealedPrivate, LifecycleError> {
        let keyring = Arc::clone(&self.parts.keyring);
        Ok(keyring.seal(
            &self.policy.issuer,
            &imported.kid,
            imported.alg,
            base_revision,
            private,
        )?)
    }
}
