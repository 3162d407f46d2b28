//! The scratch installation: a directory of its own, a configuration with the timings of
//! `conf/test-fast.yaml`, loopback ports. Nothing of the real installation is named in it.

use std::fs::{self, DirBuilder};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::super::exit::Failure;
use super::rng::{Rng, random};

/// Below the range from which systems take the ports of outgoing connections, so that none of
/// those sits on a port of ours when the gateway restarts.
const FIRST_PORT: u64 = 10_240;
const PORTS: u64 = 22_000;

/// The client of the background load.
pub(super) const CLIENT: &str = "load";
/// Token life of [`CLIENT`], longer than the crash rehearsal needs.
pub(super) const LONG: &str = "50s";
/// The same while waiting for keys to retire, which takes as long as their longest token.
pub(super) const SHORT: &str = "5s";

#[derive(Debug)]
pub(super) struct Scratch {
    dir: PathBuf,
    algorithm: &'static str,
    pub(super) ttl: &'static str,
    pub(super) proxy: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) metrics: SocketAddr,
    pub(super) echo: SocketAddr,
}

impl Scratch {
    /// Makes the directory, below `parent`; nobody else may look into it.
    pub(super) fn make(parent: &Path, algorithm: &'static str) -> Result<Self, Failure> {
        let dir = parent.join(format!("portcullis-rehearsal-{:016x}", random()));
        DirBuilder::new().mode(0o700).create(&dir).map_err(|error| {
            Failure::Usage(format!(
                "cannot make the scratch directory {}: {error}; name a directory that you may write to with --dir",
                dir.display()
            ))
        })?;
        // An absolute path: children run in the directory itself.
        let dir = dir.canonicalize().unwrap_or(dir);
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut scratch = Self {
            dir,
            algorithm,
            ttl: LONG,
            proxy: nowhere,
            admin: nowhere,
            metrics: nowhere,
            echo: nowhere,
        };
        scratch.new_ports()?;
        Ok(scratch)
    }

    /// Takes other ports; the ones before turned out to be in use.
    pub(super) fn new_ports(&mut self) -> Result<(), Failure> {
        let mut rng = Rng::new(random());
        let mut free = || {
            let candidates = (0..PORTS).map(|_| {
                let port = FIRST_PORT + rng.below(PORTS);
                SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port).unwrap_or_default()))
            });
            let mut free = candidates.filter(|address| TcpListener::bind(address).is_ok());
            free.next()
                .ok_or_else(|| Failure::Other("no free port on 127.0.0.1".to_owned()))
        };
        (self.proxy, self.admin, self.metrics, self.echo) = (free()?, free()?, free()?, free()?);
        Ok(())
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The store's directory, a `file` store.
    pub(super) fn store(&self) -> PathBuf {
        self.path("data/keys")
    }

    pub(super) fn key_set(&self) -> PathBuf {
        self.path("data/keys/keyset.json")
    }

    /// Writes the configuration of the gateway.
    pub(super) fn write_config(&self) -> Result<(), Failure> {
        self.write("portcullis.yaml", &self.config("data/keys"))
    }

    /// Writes a configuration of the same issuer on another store directory.
    pub(super) fn write_config_of(&self, name: &str, store: &str) -> Result<(), Failure> {
        self.write(name, &self.config(store))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        let path = self.path(name);
        fs::write(&path, text)
            .map_err(|error| Failure::Other(format!("cannot write {}: {error}", path.display())))
    }

    /// The issuer names no port: a gateway that had to move is still the same issuer.
    fn config(&self, store: &str) -> String {
        let Self {
            algorithm,
            ttl,
            proxy,
            admin,
            metrics,
            echo,
            ..
        } = self;
        format!(
            r#"# Scratch configuration of `portcullis rehearse`; timings as in conf/test-fast.yaml.
listeners:
  proxy:   {{ address: {proxy} }}
  admin:   {{ address: {admin}, tokens: [{{ name: rehearsal, role: admin, file: secrets/admin.token }}] }}
  metrics: {{ address: {metrics} }}
issuer:
  url: http://127.0.0.1
  audience: [api]
  token_ttl: 5s
  algorithm: {algorithm}
keys:
  store: {{ file: {store} }}
  encryption_key_files: [secrets/kek]
  rotation_interval: 2s
  idempotency_window: 800ms
  prepublish: 500ms
  jwks_max_age: 0s
  leeway: 0s
  clock_offset_max: 1s
  sign_drain: 1s500ms
  isolation_grace: 1s
  replica_lease: 200ms
  heartbeat: 50ms
  barrier_timeout: 300ms
clients:
  - {{ id: {CLIENT}, secret_hash_file: secrets/load.hash, scopes: [read], token_ttl: {ttl} }}
upstreams:
  echo: {{ endpoints: ["{echo}"] }}
routes:
  - name: api
    match: {{ prefix: / }}
    auth: {{ scopes_any: [read] }}
    upstream: echo
server: {{ shutdown_grace: 10s }}
log: {{ format: json }}
"#
        )
    }

    /// Removes everything.
    pub(super) fn remove(&self) -> Result<(), Failure> {
        fs::remove_dir_all(&self.dir).map_err(|error| {
            Failure::Other(format!(
                "cannot remove the scratch directory {}: {error}; it holds scratch keys only, remove it by hand",
                self.dir.display()
            ))
        })
    }
}

/// Every file below `dir` that is there while it is looked at, with its content.
pub(super) fn files_below(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else if let Ok(bytes) = fs::read(&path) {
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}

/// Copies the files of a store, its lock excepted, into a new directory.
pub(super) fn copy_store(from: &Path, to: &Path) -> std::io::Result<()> {
    DirBuilder::new().mode(0o700).recursive(true).create(to)?;
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        if name != "lock" {
            fs::copy(from.join(&name), to.join(&name))?;
        }
    }
    Ok(())
}
