//! A response body that somebody else writes piece by piece.
//!
//! Nothing is buffered but one piece: whoever writes waits until the client has taken the one before,
//! and learns when the response is over, however it ended.

use std::fmt;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use tokio::sync::oneshot;

use super::Hold;

/// Where the pieces go.
pub struct Pieces {
    sender: Sender<Bytes>,
    over: oneshot::Receiver<()>,
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pieces")
    }
}

/// The response is over: the client left, took too long, or the service stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over;

/// A response whose body is what the [`Pieces`] get, until they are dropped. `kept` lives until the
/// response is over.
#[must_use]
pub fn stream(kept: impl Send + Sync + 'static) -> (Pieces, Response) {
    let (sender, body) = Channel::new(1);
    let (alive, over) = oneshot::channel();
    let mut response = Response::new(Body::new(body));
    // The sender side of `alive` is dropped with the hold, and that is what `over` waits for.
    let hold = Hold::new((kept, alive));
    response.extensions_mut().insert(hold);
    (Pieces { sender, over }, response)
}

impl Pieces {
    /// Hands a piece over, once the one before has been taken.
    ///
    /// # Errors
    /// When the response is over.
    pub async fn send(&mut self, piece: Bytes) -> Result<(), Over> {
        tokio::select! {
            biased;
            _ = &mut self.over => Err(Over),
            sent = self.sender.send_data(piece) => sent.map_err(|_closed| Over),
        }
    }

    /// Does `work` unless the response is over before.
    ///
    /// # Errors
    /// When the response is over.
    pub async fn unless_over<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Over> {
        tokio::select! {
            biased;
            _ = &mut self.over => Err(Over),
            done = work => Ok(done),
        }
    }
}
