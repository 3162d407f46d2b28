//! How an upstream is judged: by its endpoints.

use crate::clock::Timestamp;
use crate::telemetry::{EndpointHealth, EndpointState};

use super::view::{EndpointView, Facts, Status};
use super::{Verdict, WatchedUpstream};

pub(super) fn judge(upstream: &WatchedUpstream, started_at: Timestamp) -> Verdict {
    let all = upstream.endpoints.len();
    let states = upstream.endpoints.iter().map(|endpoint| endpoint.state());
    let down: Vec<(EndpointState, Option<Timestamp>)> = states
        .filter(|(state, _)| *state != EndpointState::Up)
        .collect();
    // Whatever the status became, it became so with the last change of an endpoint.
    let dates = upstream.endpoints.iter().filter_map(|of| of.state().1);
    let (status, reason) = match (down.first(), down.len()) {
        (Some((EndpointState::Down(trouble), _)), _) if all == 1 => (
            Status::Error,
            format!("Its only endpoint {}.", trouble.in_words()),
        ),
        (Some(_), count) if count == all => (
            Status::Error,
            format!("None of its {all} endpoints can be used; requests fail until one is back."),
        ),
        (Some(_), count) => (
            Status::Warning,
            format!("{count} of its {all} endpoints cannot be used; requests go to the others."),
        ),
        (None, _) if all == 1 => (Status::Ok, "Its endpoint can be used.".to_owned()),
        (None, _) => (
            Status::Ok,
            format!("All of its {all} endpoints can be used."),
        ),
    };
    let checked = match upstream.checked_every {
        Some(interval) => format!("every {interval:?}"),
        None => "off".to_owned(),
    };
    let facts = Facts::default()
        .with("endpoints up", format!("{} of {all}", all - down.len()))
        .with("health check", checked);
    Verdict {
        id: format!("upstream:{}", upstream.name),
        kind: "upstream",
        name: upstream.name.clone(),
        status,
        reason,
        since: dates.max(),
        facts,
        endpoints: Some(
            upstream
                .endpoints
                .iter()
                .map(|endpoint| view(endpoint, started_at))
                .collect(),
        ),
    }
}

fn view(endpoint: &EndpointHealth, started_at: Timestamp) -> EndpointView {
    let (state, since) = endpoint.state();
    let (status, reason) = match state {
        EndpointState::Up => (Status::Ok, "It can be used.".to_owned()),
        EndpointState::Down(trouble) => (Status::Error, format!("It {}.", trouble.in_words())),
    };
    EndpointView {
        address: endpoint.address().to_owned(),
        status,
        reason,
        since: since.unwrap_or(started_at).to_string(),
    }
}
