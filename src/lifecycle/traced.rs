//! The spans of rotations and purges.

use std::time::Instant;

use crate::keys::Trigger;
use crate::keys::transition::Order;
use crate::log_id::LogId;
use crate::telemetry::{Fact, LifecycleSpan, RotationKind, Tracer};

use super::{Lifecycle, LifecycleError, RotationOutcome};

impl Lifecycle {
    /// From now on rotations and purges make spans; the first tracer given stays.
    pub fn attach_tracer(&self, tracer: Tracer) {
        let _first_stays = self.tracer.set(tracer);
    }

    /// Log ID of the line that tells why `order` failed, for whoever writes that line: the span of
    /// the order, made before, bears it too.
    #[must_use]
    pub fn failure_log_id(&self, order: &Order) -> LogId {
        match order.trigger {
            // Nothing else bears the identifier of a rotation that never was.
            Trigger::Manual => LogId::from_bytes(*order.id.as_bytes()),
            // Tried again and again, and told of once.
            Trigger::Automatic => self.schedule.failure_log_id(),
        }
    }

    pub(super) fn trace(
        &self,
        order: &Order,
        kind: RotationKind,
        result: &Result<RotationOutcome, LifecycleError>,
        began: Instant,
    ) {
        let Some(tracer) = self.tracer.get() else {
            return;
        };
        let trigger = match order.trigger {
            Trigger::Manual => "manual",
            Trigger::Automatic => "automatic",
        };
        let mut attributes = vec![("portcullis.trigger", Fact::Text(trigger.to_owned()))];
        let mut failure = None;
        match result {
            Ok(outcome) => {
                let rotation_id = outcome.activation.id.to_string();
                attributes.push(("portcullis.changed", Fact::Flag(outcome.changed)));
                attributes.push(("portcullis.revision", Fact::Number(outcome.set.revision)));
                attributes.push(("portcullis.rotation_id", Fact::Text(rotation_id)));
                if let Some(receipt) = &outcome.receipt {
                    let state = receipt.state();
                    let purge_id = receipt.purge_id.to_string();
                    let still_held_by = state.still_held_by.join(", ");
                    attributes.push(("portcullis.purge_id", Fact::Text(purge_id)));
                    attributes.push(("portcullis.drained", Fact::Flag(state.drained_at.is_some())));
                    attributes.push(("portcullis.still_held_by", Fact::Text(still_held_by)));
                }
            }
            // The text of the failure may quote what an operator typed.
            Err(_) => {
                let log_id = self.failure_log_id(order).to_string();
                attributes.push(("portcullis.log_id", Fact::Text(log_id)));
                failure = Some("failed; the line of the log with this Log ID says why".to_owned());
            }
        }
        tracer.lifecycle(LifecycleSpan {
            name: match kind {
                RotationKind::Rotate => "rotate keys",
                RotationKind::Purge => "purge keys",
            },
            began,
            took: began.elapsed(),
            attributes,
            failure,
        });
    }
}
