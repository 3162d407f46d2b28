//! A real nginx as upstream: Debian's binary with a configuration, directories and ports of its
//! own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::certificates::Certificates;
use super::eventually;
use super::peers::peer;
use super::process::free_ports;

/// A running nginx; ends when dropped.
pub struct Nginx {
    /// Plain HTTP.
    pub address: SocketAddr,
    /// HTTPS with the certificate for `localhost`.
    pub tls_address: SocketAddr,
    pub certificates: Certificates,
    dir: tempfile::TempDir,
    child: Child,
}

impl Nginx {
    /// Answers every path with `real nginx` and what it was told of the caller. `None` when nginx
    /// cannot be had.
    pub async fn start() -> Option<Self> {
        let program = peer("nginx")?;
        let dir = tempfile::tempdir().expect("a directory");
        let certificates = Certificates::make(dir.path());
        let [address, tls_address] = free_ports();
        let conf = dir.path().join("nginx.conf");
        let text = configuration(dir.path(), address, tls_address, &certificates);
        std::fs::write(&conf, text).expect("a configuration");
        let child = Command::new(program)
            .arg("-p")
            .arg(dir.path())
            .arg("-c")
            .arg(&conf)
            .arg("-e")
            .arg(dir.path().join("error.log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx starts");
        let started = Self {
            address,
            tls_address,
            certificates,
            dir,
            child,
        };
        eventually("nginx listens", || async {
            tokio::net::TcpStream::connect(address).await.ok()
        })
        .await;
        Some(started)
    }

    /// Lines of its access log.
    pub fn access_log(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn configuration(
    dir: &Path,
    address: SocketAddr,
    tls_address: SocketAddr,
    certificates: &Certificates,
) -> String {
    let dir = dir.display();
    let Certificates { cert, key, .. } = certificates;
    let (cert, key) = (cert.display(), key.display());
    // One process, so that killing it leaves nobody behind.
    format!(
        r#"
daemon off;
master_process off;
pid {dir}/pid;
error_log {dir}/error.log;
events {{}}
http {{
  access_log {dir}/access.log;
  client_body_temp_path {dir}/body;
  proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi;
  scgi_temp_path {dir}/scgi;
  server {{
    listen {address};
    listen {tls_address} ssl;
    ssl_certificate {cert};
    ssl_certificate_key {key};
    location / {{
      default_type text/plain;
      return 200 "real nginx $scheme sub=$http_x_auth_subject token=$http_authorization\n";
    }}
  }}
}}
"#
    )
}
