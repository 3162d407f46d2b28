//! The order of random decisions: the same seed, the same decisions.

use ring::rand::{SecureRandom as _, SystemRandom};

/// SplitMix64: small, even, and no secret depends on it.
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or_default()
    }

    /// An index into something of length `len`.
    pub(super) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or_default()
    }
}

/// 64 bits that nobody can foretell.
pub(super) fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness from the system the rehearsal fails elsewhere, and aloud.
    let _filled = SystemRandom::new().fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// A seed that nobody chose; small, so that it can be typed again.
pub(super) fn fresh_seed() -> u64 {
    random() >> 40
}
