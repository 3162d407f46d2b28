//! The command line: one file per noun. Human text on a terminal, `--output json` for scripts.
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
mod keys_rotate;
mod openapi;
mod out;
mod rehearse;
mod reseal;
mod serve;
mod store;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Config;

use exit::Failure;

/// A reverse-proxy authentication gateway: issues OAuth 2.0 access tokens, verifies them in front
/// of your services, and rotates or purges its signing keys without breaking anybody by surprise.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed; the message says why
  2  bad configuration or usage
  3  the store is not initialised or cannot be used
  4  an address cannot be listened on
  5  the store is locked by another process

Start here:
  portcullis init     make keys, an admin token and client secrets
  portcullis serve    run the gateway";

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
    /// Rehearse rotations, purges and crashes on scratch keys; print the verdict of each invariant
    Rehearse(rehearse::RehearseCommand),
    /// Print the OpenAPI 3.1 document of the admin API
    ///
    /// The same as GET /admin/v1/openapi.json of a running gateway; needs neither gateway nor
    /// configuration.
    Openapi,
    /// Print the completion script of a shell, or the manual page
    Completions(completions::CompletionsCommand),
    /// Run the echo upstream of the demo alone
    #[command(hide = true)]
    Echo(echo::EchoCommand),
}

/// Runs the program with the arguments of the process.
#[must_use]
pub fn run() -> ExitCode {
    harden::no_core_dumps();
    let cli = match Cli::try_parse() {
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
        Command::Rehearse(command) => rehearse::run(&command),
        Command::Openapi => openapi::run(),
        Command::Completions(command) => completions::run(&command),
        Command::Echo(command) => echo::run(&command),
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
