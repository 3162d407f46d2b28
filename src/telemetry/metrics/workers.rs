//! How connections spread over the workers: the kernel decides that by a hash of each connection's
//! addresses, so a few long-lived connections may all land on the same worker.

use std::sync::Arc;

use prometheus::{IntGauge, Result};

use super::registrar::Registrar;

/// The metrics of one worker of a proxy listener, resolved at start.
#[derive(Debug)]
pub struct WorkerMetrics {
    connections: IntGauge,
}

impl WorkerMetrics {
    /// Open connections now.
    #[must_use]
    pub fn connections_now(&self) -> i64 {
        self.connections.get()
    }

    /// Counts a connection as open until the guard is dropped.
    #[must_use]
    pub fn connection(&self) -> OpenConnection {
        self.connections.inc();
        OpenConnection(self.connections.clone())
    }
}

/// An open connection; dropping it ends that.
#[derive(Debug)]
pub struct OpenConnection(IntGauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Registers the family and makes the series of each of `names`, in their order.
pub(super) fn register(to: &mut Registrar, names: &[String]) -> Result<Vec<Arc<WorkerMetrics>>> {
    let family = to.int_gauges(
        "worker_connections",
        "Open connections of proxy listeners, by the worker that serves them.",
        &["worker"],
    )?;
    let worker = |name: &String| {
        let connections = family.get_metric_with_label_values(&[name])?;
        Ok(Arc::new(WorkerMetrics { connections }))
    };
    names.iter().map(worker).collect()
}
