//! What a request body may cost on its way to the upstream.
//!
//! Each piece of a body is forwarded as it comes, which costs about the same for one byte as for a
//! thousand: a megabyte in frames of sixty bytes would cost as much as hundreds of requests. So every
//! piece has to be earned, by bytes or by time: a full packet earns one, and a stream of small messages
//! ten thousand a second. Chunks of HTTP/1 are no pieces: the listener hands on what arrived together.
//! Taking pieces at a pace instead was tried: apart from each other they cost three times as much as
//! in a row.

use std::time::Duration;

use pingora::{Error, ErrorType, Result};

/// Name of the error for a body in too many tiny pieces.
pub(super) const CRUMBLED: &str = "body in tiny pieces";

/// So many pieces nobody asks about.
const FREE_PIECES: u64 = 700;

/// So many bytes earn another: less than the smallest packet that a body in full packets comes in.
const BYTES_OF_A_PIECE: u64 = 1024;

/// And so many does every millisecond since the request began: what they cost, a client could ask for
/// with whole requests at a tenth of their pace.
const PIECES_OF_A_MILLISECOND: u64 = 10;

/// A body on its way.
#[derive(Debug, Default)]
pub(super) struct BodyCount {
    bytes: u64,
    pieces: u64,
}

impl BodyCount {
    /// Counts a piece of `length` bytes; `since` is asked how long ago the request began.
    ///
    /// # Errors
    /// When the body is larger than `most`, or comes in too many tiny pieces.
    pub(super) fn take(
        &mut self,
        length: usize,
        since: impl FnOnce() -> Duration,
        most: u64,
    ) -> Result<()> {
        self.bytes = self.bytes.saturating_add(length as u64);
        self.pieces = self.pieces.saturating_add(1);
        if self.bytes > most {
            return Err(Error::explain(
                ErrorType::HTTPStatus(413),
                "the request body is too large",
            ));
        }
        if self.is_crumbled(since) {
            return Err(Error::new(ErrorType::Custom(CRUMBLED)));
        }
        Ok(())
    }

    /// The clock is read for bodies in many small pieces alone.
    fn is_crumbled(&self, since: impl FnOnce() -> Duration) -> bool {
        let earned = FREE_PIECES.saturating_add(self.bytes / BYTES_OF_A_PIECE);
        let by_time = || u64::try_from(since().as_millis()).unwrap_or(u64::MAX);
        self.pieces > earned
            && self.pieces
                > earned.saturating_add(by_time().saturating_mul(PIECES_OF_A_MILLISECOND))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many pieces of so many bytes are taken when one comes each `pace`, of ten thousand.
    fn taken(length: usize, pace: Duration) -> u32 {
        let mut count = BodyCount::default();
        let is_taken = |number: &u32| count.take(length, || pace * *number, 1 << 40).is_ok();
        u32::try_from((0..10_000).take_while(is_taken).count()).unwrap()
    }

    #[test]
    fn tiny_pieces_come_slowly_or_are_few() {
        let millis = Duration::from_millis;
        assert_eq!(taken(1, Duration::ZERO), 700);
        assert_eq!(taken(65, Duration::ZERO), 747, "small");
        assert_eq!(taken(512, Duration::ZERO), 1400);
        assert_eq!(taken(1024, Duration::ZERO), 10_000, "no longer tiny");
        let micros = Duration::from_micros;
        assert_eq!(taken(1, micros(100)), 10_000, "a stream of messages");
        assert!(taken(1, micros(90)) < 10_000, "a little too fast");
        assert_eq!(taken(1, millis(10)), 10_000, "typed");
        assert_eq!(taken(16_384, Duration::ZERO), 10_000);
    }

    #[test]
    fn no_more_bytes_than_the_limit() {
        let mut count = BodyCount::default();
        assert!(count.take(100, || Duration::ZERO, 100).is_ok());
        let error = count.take(1, || Duration::ZERO, 100).unwrap_err();
        assert_eq!(error.etype(), &ErrorType::HTTPStatus(413));
    }
}
