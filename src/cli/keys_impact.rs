//! `portcullis keys preview` and `portcullis keys purges`: what a purge would break, and what one
//! did break.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::admin_client::{AdminClient, AdminTarget};
use super::exit::Failure;
use super::keys::{Output, OutputFormat, member, number, print_json, text};
use super::out::say;

/// Between two looks at a running shadow purge, and at clients that recover.
const SHADOW_LOOK: Duration = Duration::from_secs(1);
const WATCH_LOOK: Duration = Duration::from_secs(2);

/// Clients that the table of a purge lists; `--output json` lists all.
const TABLE_CLIENTS: usize = 20;

#[derive(Debug, Args)]
pub(super) struct PreviewArgs {
    #[command(flatten)]
    target: AdminTarget,
    #[command(flatten)]
    output: OutputFormat,
    /// Of a purge of this key alone (may be repeated)
    #[arg(long = "kid", value_name = "KID")]
    kids: Vec<String>,
    /// With --kid of the active key: the pending key would be trusted
    #[arg(long, requires = "kids")]
    keep_pending: bool,
    /// Count on live traffic what would fail, for so long (1s to 5m); waits for the result
    #[arg(long, value_name = "DURATION")]
    shadow: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct PurgesArgs {
    #[command(flatten)]
    target: AdminTarget,
    #[command(flatten)]
    output: OutputFormat,
    /// Show this purge: its receipt, whom it broke and who is back
    id: Option<String>,
    /// Print again every 2 s, until every client that the purge broke is back
    #[arg(long, requires = "id")]
    watch: bool,
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
    say(&format!(
        "{:<11} {:<44} {:>8} {:>8} {:>9} {:>8} LAST EXPIRES",
        "STATE", "KID", "TOKENS", "CLIENTS", "REQ/S", "CALLERS"
    ));
    for key in member(&preview, "keys").as_array().into_iter().flatten() {
        say(&format!(
            "{:<11} {:<44} {:>8} {:>8} {:>9.1} {:>8} {}",
            text(key, "state"),
            text(key, "kid"),
            member(key, "live_tokens"),
            bounded(key, "clients"),
            rate(key),
            bounded(key, "requesting_clients"),
            text(key, "live_until")
        ));
    }
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
    let status_url = text(&shadow, "status_url").to_owned();
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
    for (route, requests) in member(&shadow, "routes").as_object().into_iter().flatten() {
        say(&format!("{route:<32} {requests:>10} requests"));
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(
    clippy::disallowed_methods,
    reason = "between two looks at a condition, for a person who may end the wait"
)]
fn pause(duration: Duration) {
    thread::sleep(duration);
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

pub(super) fn purges(args: &PurgesArgs) -> Result<ExitCode, Failure> {
    let client = args.target.client()?;
    let Some(id) = &args.id else {
        let purges = client.get("/admin/v1/keys/purges")?;
        match args.output.output {
            Output::Json => print_json(&purges),
            Output::Table => print_purges(&purges),
        }
        return Ok(ExitCode::SUCCESS);
    };
    if !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err(Failure::Usage(format!("{id:?} is no purge id")));
    }
    loop {
        let purge = one_purge(&client, id, args.output.output)?;
        match args.output.output {
            Output::Json => print_json(&purge),
            Output::Table => print_purge(&purge),
        }
        if !args.watch || is_over(&purge) {
            return Ok(ExitCode::SUCCESS);
        }
        pause(WATCH_LOOK);
    }
}

/// A purge with its first clients, or as JSON with all of them.
fn one_purge(client: &AdminClient, id: &str, output: Output) -> Result<Value, Failure> {
    let path = format!("/admin/v1/keys/purges/{id}");
    if output == Output::Table {
        return client.get(&format!("{path}?limit={TABLE_CLIENTS}"));
    }
    let mut purge = client.get(&format!("{path}?limit=1000"))?;
    while let Some(after) = member(member(&purge, "recovery"), "next_after").as_str() {
        let next = client.get(&format!("{path}?limit=1000&after={}", escaped(after)))?;
        append(&mut purge, next);
    }
    Ok(purge)
}

/// Adds the clients of a further page.
fn append(purge: &mut Value, next: Value) {
    let of = |mut purge: Value| purge.get_mut("recovery").map(Value::take);
    let (Some(all), Some(mut more)) = (purge.get_mut("recovery"), of(next)) else {
        return;
    };
    let rest = more.get_mut("clients").map(Value::take);
    if let (Some(Value::Array(clients)), Some(Value::Array(rest))) = (all.get_mut("clients"), rest)
    {
        clients.extend(rest);
    }
    if let Some(members) = all.as_object_mut() {
        match more.get("next_after") {
            Some(after) => drop(members.insert("next_after".to_owned(), after.clone())),
            None => drop(members.remove("next_after")),
        }
    }
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Whether every client that the purge broke is back, and it broke one.
fn is_over(purge: &Value) -> bool {
    let recovery = member(purge, "recovery");
    let affected = number(recovery, "affected").unwrap_or_default();
    affected > 0 && number(recovery, "recovered") == Some(affected)
}

fn print_purges(purges: &Value) {
    say(&format!(
        "{:<36} {:<24} {:>4} {:>8} {:>9} {:>9} {:>9}",
        "PURGE", "COMMITTED", "KEYS", "AFFECTED", "NEW TOKEN", "RECOVERED", "FAILURES"
    ));
    for purge in member(purges, "purges").as_array().into_iter().flatten() {
        let recovery = member(purge, "recovery");
        say(&format!(
            "{:<36} {:<24} {:>4} {:>8} {:>9} {:>9} {:>9}",
            text(purge, "purge_id"),
            text(purge, "committed_at"),
            member(purge, "kids").as_array().map_or(0, Vec::len),
            member(recovery, "affected").to_string(),
            member(recovery, "got_new_token").to_string(),
            member(recovery, "recovered").to_string(),
            member(recovery, "failures").to_string(),
        ));
    }
}

fn print_purge(purge: &Value) {
    let recovery = member(purge, "recovery");
    say(&format!(
        "purge {} at {}, over since {}; verifiers elsewhere may use a cached JWKS until {}",
        text(purge, "purge_id"),
        text(purge, "committed_at"),
        text(purge, "drained_at"),
        text(purge, "external_verifiers_until"),
    ));
    say(&format!(
        "it broke {} clients with {} requests; {} got a new token, {} are back",
        member(recovery, "affected"),
        member(recovery, "failures"),
        member(recovery, "got_new_token"),
        member(recovery, "recovered"),
    ));
    if number(recovery, "unlisted_failures").unwrap_or_default() > 0 {
        say(&format!(
            "and {} requests of more clients than are remembered",
            member(recovery, "unlisted_failures")
        ));
    }
    let clients = member(recovery, "clients").as_array();
    let Some(clients) = clients.filter(|clients| !clients.is_empty()) else {
        return;
    };
    say(&format!(
        "{:<32} {:>8} {:<24} {:<24} {:<24} BACK SINCE",
        "CLIENT", "FAILURES", "FIRST FAILURE", "LAST FAILURE", "NEW TOKEN"
    ));
    for client in clients {
        say(&format!(
            "{:<32} {:>8} {:<24} {:<24} {:<24} {}",
            text(client, "client_id"),
            member(client, "failures"),
            text(client, "first_failure_at"),
            text(client, "last_failure_at"),
            text(client, "new_token_at"),
            text(client, "recovered_at"),
        ));
    }
    if recovery.get("next_after").is_some() {
        say("and more; --output json lists all");
    }
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
