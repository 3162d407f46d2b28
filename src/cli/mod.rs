//! The command line: one file per noun. Tables for people, `--output json` for scripts.
//!
//! Invariants: what comes from outside reaches a terminal escaped (`out`); a secret or a token is
//! never taken from an argument; what every command teaches in its `--help` stands in one table
//! (`teach`), from which the manual pages and `docs/cli.md` are made as well.
//!
//! Exit codes: 0 done, 1 failed, 2 bad configuration or usage, 3 store not initialised or not
//! usable, 4 cannot bind, 5 store locked.

mod admin_client;
mod audit;
mod check;
mod client_verbs;
mod clients;
mod clock;
mod completions;
mod demo;
mod echo;
mod exit;
mod harden;
mod init;
mod keys;
mod keys_impact;
mod keys_import;
mod keys_purges;
mod keys_rotate;
mod load;
mod logs;
mod man;
mod openapi;
mod out;
mod rehearse;
mod reseal;
mod serve;
mod status;
mod store;
mod table;
mod teach;
mod token;
mod trust;
mod value;
mod watch;
mod when;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{FromArgMatches as _, Parser, Subcommand};

use crate::config::Config;

use exit::Failure;

/// A reverse-proxy authentication gateway: issues OAuth 2.0 access tokens, verifies them in front
/// of your services, and rotates or purges its signing keys without breaking anybody by surprise.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The configuration file, for every command that needs one.
#[derive(Clone, Debug, clap::Args)]
struct ConfigFile {
    /// Configuration file (YAML)
    #[arg(
        long,
        short,
        env = "PORTCULLIS_CONFIG",
        default_value = "conf/portcullis.yaml",
        value_name = "FILE"
    )]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make what is missing: key set, key-encryption key, admin token, client secrets
    ///
    /// Never overwrites anything. A second run says 'already initialised' and changes nothing.
    Init(ConfigFile),
    /// Run the gateway until SIGTERM or SIGINT
    ///
    /// Never creates keys or secrets: when they are missing it says which command makes them and
    /// exits with 3.
    Serve(ConfigFile),
    /// Initialise, run the gateway with a built-in echo upstream, and print a story to try
    Demo(ConfigFile),
    /// Check a configuration file and print what would run; starts nothing
    Check(ConfigFile),
    /// List and rotate signing keys, through the admin listener of a running gateway
    Keys(Box<keys::KeysCommand>),
    /// Mend a key set file that was lost or damaged
    Store(store::StoreCommand),
    /// Show and check the record of every rotation, purge and retirement
    Audit(audit::AuditCommand),
    /// List clients, shut them out, end their tokens, make new ones; hash a client secret
    Clients(clients::ClientsCommand),
    /// Get an access token, read one, or learn why one is refused
    Token(token::TokenCommand),
    /// Show how the gateway, its store and its upstreams are
    ///
    /// Errors and warnings come first, each with what is wrong and what to do.
    Status(status::StatusArgs),
    /// Show the log lines behind the Log ID of an error answer
    ///
    /// A gateway remembers its last lines; name its log file with --file for older ones.
    Logs(logs::LogsArgs),
    /// Rehearse rotations, purges and crashes on scratch keys; print the verdict of each invariant
    Rehearse(rehearse::RehearseCommand),
    /// Print the OpenAPI 3.1 document of the admin API
    ///
    /// The same as GET /admin/v1/openapi.json of a running gateway; needs neither gateway nor
    /// configuration.
    Openapi,
    /// Print the completion script of a shell
    Completions(completions::CompletionsCommand),
    /// Print the manual page, or write one for every command
    Man(man::ManCommand),
    /// Run the echo upstream of the demo alone
    #[command(hide = true)]
    Echo(echo::EchoCommand),
    /// Call a gateway as a few clients would, for a demonstration
    #[command(hide = true)]
    Load(load::LoadCommand),
}

/// Runs the program with the arguments of the process.
#[must_use]
pub fn run() -> ExitCode {
    harden::no_core_dumps();
    let parsed = teach::command()
        .try_get_matches()
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; usage errors are 2, which is clap's code as well.
            let _unwritable = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let result = match cli.command {
        Command::Init(file) => init::run(&file),
        Command::Serve(file) => serve::run(&file),
        Command::Demo(file) => demo::run(&file),
        Command::Check(file) => check::run(&file),
        Command::Keys(command) => keys::run(&command),
        Command::Store(command) => store::run(&command),
        Command::Audit(command) => audit::run(&command),
        Command::Clients(command) => clients::run(&command),
        Command::Token(command) => token::run(&command),
        Command::Status(args) => status::run(&args),
        Command::Logs(args) => logs::run(&args),
        Command::Rehearse(command) => rehearse::run(&command),
        Command::Openapi => openapi::run(),
        Command::Completions(command) => completions::run(&command),
        Command::Man(command) => man::run(&command),
        Command::Echo(command) => echo::run(&command),
        Command::Load(command) => load::run(&command),
    };
    match result {
        Ok(_) if !out::is_complete() => ExitCode::FAILURE,
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

impl ConfigFile {
    fn load(&self) -> Result<Config, Failure> {
        Ok(Config::load(&self.config, &|name| {
            std::env::var(name).ok()
        })?)
    }
}
