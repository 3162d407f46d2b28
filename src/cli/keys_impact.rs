//! `portcullis keys preview`: what a purge would break.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::admin_client::{AdminClient, AdminTarget};
use super::exit::Failure;
use super::keys::tone_of;
use super::out::{Tone, say};
use super::table::Table;
use super::value::{Output, OutputFormat, list, member, plain, print_json, text};
use super::watch::pause;

/// Between two looks at a running shadow purge.
const SHADOW_LOOK: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct PreviewArgs {
    #[command(flatten)]
    target: AdminTarget,
    #[command(flatten)]
    output: OutputFormat,
    /// Of a purge of this key alone (may be repeated)
    #[arg(long = "kid", value_name = "KID", allow_hyphen_values = true)]
    kids: Vec<String>,
    /// With --kid of the active key: the pending key would be trusted
    #[arg(long, requires = "kids")]
    keep_pending: bool,
    /// Count on live traffic what would fail, for so long (1s to 5m); waits for the result
    #[arg(long, value_name = "DURATION")]
    shadow: Option<String>,
}

pub(super) fn preview(args: &PreviewArgs) -> Result<ExitCode, Failure> {
    let client = args.target.client()?;
    if let Some(length) = &args.shadow {
        return shadow(args, &client, length);
    }
    let preview = client.get(&format!("/admin/v1/keys/preview{}", query(args)?))?;
    if args.output.output == Output::Json {
        print_json(&preview);
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!(
        "a purge now would break up to {} live tokens of {} clients; counted at {}",
        member(&preview, "live_tokens"),
        bounded(&preview, "clients"),
        text(&preview, "computed_at"),
    ));
    if *member(&preview, "uncounted_tokens") == json!(true) {
        say("tokens that a former system signed with an imported key are not among them");
    }
    say(&format!(
        "lately they sent {:.1} requests per second, from {} clients (since {})",
        rate(&preview),
        bounded(&preview, "requesting_clients"),
        text(&preview, "traffic_since"),
    ));
    let mut table = Table::new(&[
        "STATE",
        "KID",
        "TOKENS>",
        "CLIENTS>",
        "REQ/S>",
        "CALLERS>",
        "LAST EXPIRES",
    ]);
    for key in list(&preview, "keys") {
        let state = plain(key, "state");
        let plain_cell = |text: String| (Tone::Plain, text);
        table.toned_row([
            (tone_of(state), state.to_owned()),
            plain_cell(plain(key, "kid").to_owned()),
            plain_cell(member(key, "live_tokens").to_string()),
            plain_cell(bounded(key, "clients")),
            plain_cell(format!("{:.1}", rate(key))),
            plain_cell(bounded(key, "requesting_clients")),
            plain_cell(plain(key, "live_until").to_owned()),
        ]);
    }
    table.say();
    say(&format!(
        "a plain Rotate breaks nothing and would have replaced them all by {}",
        text(&preview, "rotate_instead_over_at")
    ));
    Ok(ExitCode::SUCCESS)
}

/// A kid needs no escaping in a query but for a few characters; those that ours have need none.
fn query(args: &PreviewArgs) -> Result<String, Failure> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:".contains(&b);
    if let Some(odd) = args.kids.iter().find(|kid| !kid.bytes().all(plain)) {
        return Err(Failure::Usage(format!(
            "--kid {odd}: a kid is letters, digits and -._~: here"
        )));
    }
    if args.kids.is_empty() {
        return Ok(String::new());
    }
    let keep = if args.keep_pending {
        "&keep_pending=true"
    } else {
        ""
    };
    Ok(format!("?kids={}{keep}", args.kids.join(",")))
}

fn shadow(args: &PreviewArgs, client: &AdminClient, length: &str) -> Result<ExitCode, Failure> {
    let mut body = json!({ "shadow": length });
    if let Some(members) = body.as_object_mut() {
        if !args.kids.is_empty() {
            members.insert("kids".to_owned(), json!(args.kids));
        }
        if args.keep_pending {
            members.insert("keep_pending".to_owned(), json!(true));
        }
    }
    let mut shadow = client.post("/admin/v1/keys/preview", &body)?;
    let status_url = plain(&shadow, "status_url").to_owned();
    while *member(&shadow, "over") != json!(true) {
        progress(&shadow);
        pause(SHADOW_LOOK);
        shadow = client.get(&status_url)?;
    }
    if args.output.output == Output::Json {
        print_json(&shadow);
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!(
        "from {} to {} a purge would have refused {} requests of {} clients; nothing was changed",
        text(&shadow, "started_at"),
        text(&shadow, "ends_at"),
        member(&shadow, "requests"),
        bounded(&shadow, "clients"),
    ));
    let mut table = Table::new(&["ROUTE", "REQUESTS>"]);
    for (route, requests) in member(&shadow, "routes").as_object().into_iter().flatten() {
        table.row([route.clone(), requests.to_string()]);
    }
    table.say();
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stderr, reason = "progress for the person who waits")]
fn progress(shadow: &Value) {
    eprintln!(
        "{} s left: {} requests of {} clients so far",
        member(shadow, "seconds_left"),
        member(shadow, "requests"),
        bounded(shadow, "clients"),
    );
}

/// A number of clients; with a mark when some were counted more than once.
fn bounded(value: &Value, name: &str) -> String {
    let exact = *member(value, &format!("{name}_exact")) != json!(false);
    let mark = if exact { "" } else { "<=" };
    format!("{mark}{}", member(value, name))
}

fn rate(value: &Value) -> f64 {
    member(value, "requests_per_second")
        .as_f64()
        .unwrap_or_default()
}
