//! A gateway whose store can be made to fail or to stand still.

use std::sync::{Arc, OnceLock};

use portcullis::store::{FaultyStore, KeyStore};

use super::{Gateway, Options};

/// Starts a gateway on a store that has no troubles yet.
pub async fn start(options: Options) -> (Gateway, Arc<FaultyStore>) {
    let made: Arc<OnceLock<Arc<FaultyStore>>> = Arc::default();
    let slot = Arc::clone(&made);
    let wrap = Box::new(move |inner| {
        let store = slot.get_or_init(|| Arc::new(FaultyStore::new(inner)));
        Arc::clone(store) as Arc<dyn KeyStore>
    });
    let gateway = Gateway::start(Options { wrap, ..options }).await;
    let store = made.get().expect("it was wrapped");
    (gateway, Arc::clone(store))
}
