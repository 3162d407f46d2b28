"""One gateway of ours in a directory of its own: configured, started, asked for tokens."""

import base64
import http.client
import json
import pathlib
import re
import shutil
import subprocess

import processes

CLIENT = "bench"
AUDIENCE = "api"

# The same length, so that routes differ in nothing but what they do.
OPEN, BARE, FULL = "open.test", "bare.test", "full.test"

_CONFIG = """\
listeners:
  proxy: {{ address: 127.0.0.1:{proxy} }}
  admin: {{ address: 127.0.0.1:{admin}, tokens: [{{ name: ops, role: admin, file: secrets/admin.token }}] }}
  metrics: {{ address: 127.0.0.1:{metrics} }}
issuer: {{ url: "{issuer}", audience: [{audience}], token_ttl: {ttl}, algorithm: {algorithm} }}
keys:
  store: {{ file: data/keys }}
  encryption_key_files: [secrets/kek]
{keys}
clients:
  - {{ id: {client}, secret_hash_file: secrets/bench.hash, scopes: [read, write] }}
upstreams:
  main: {{ endpoints: ["127.0.0.1:{upstream}"] }}
limits: {{ max_connections_per_address: 100000 }}
server: {{ workers: {workers}, sharding: {sharding}{server} }}
{more}
routes:
  - {{ name: open, match: {{ host: {open}, prefix: / }}, auth: none, upstream: main }}
  - {{ name: bare, match: {{ host: {bare}, prefix: / }}, auth: {{ scopes_any: [read] }}, upstream: main }}
  - name: full
    match: {{ host: {full}, prefix: / }}
    auth: {{ scopes_any: [read] }}
    identity_headers: {{ X-Auth-Subject: sub, X-Auth-Client-Id: client_id, X-Auth-Scopes: scope }}
    upstream: main
"""


class Gateway:
    """A gateway; `keys_of` takes over the keys and secrets of another one."""

    def __init__(self, name, binary, lab, upstream, algorithm="RS256", workers=2, sharding=True,
                 ttl="1h", keys="", more="", server=None, keys_of=None, wrapper=()):
        self.name, self.binary = name, pathlib.Path(binary).resolve()
        self.algorithm, self.wrapper = algorithm, list(wrapper)
        self.dir = pathlib.Path(lab, name)
        shutil.rmtree(self.dir, ignore_errors=True)
        (self.dir / "secrets").mkdir(parents=True)
        self.port, self.admin_port, self.metrics_port = (processes.free_port() for _ in range(3))
        self.issuer = keys_of.issuer if keys_of else f"http://127.0.0.1:{self.port}"
        config = _CONFIG.format(
            proxy=self.port, admin=self.admin_port, metrics=self.metrics_port, issuer=self.issuer,
            audience=AUDIENCE, ttl=ttl, algorithm=algorithm, keys=keys, client=CLIENT,
            upstream=upstream, workers=workers, sharding=str(sharding).lower(), more=more,
            server="".join(f", {name}: {value}" for name, value in (server or {}).items()),
            open=OPEN, bare=BARE, full=FULL)
        (self.dir / "portcullis.yaml").write_text(config)
        self.child = None
        if keys_of:
            for part in ("data", "secrets"):
                shutil.copytree(keys_of.dir / part, self.dir / part, dirs_exist_ok=True)
            self.secret = keys_of.secret
        else:
            made = self.run("init")
            self.secret = re.search(r"secret of client .*\n\s+(\S+)", made).group(1)

    def run(self, *arguments):
        """Runs a command of the binary to its end and gives its output back."""
        done = subprocess.run([self.binary, *arguments, "--config", "portcullis.yaml"],
                              cwd=self.dir, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{self.name}: {arguments[0]} ended with {done.returncode}:\n{done.stderr}")
        return done.stdout

    def start(self, patience=30.0):
        command = [*self.wrapper, self.binary, "serve", "--config", "portcullis.yaml"]
        self.child = processes.start(command, self.dir / "serve.log", cwd=self.dir)
        for port in (self.port, self.admin_port, self.metrics_port):
            processes.wait_for_port(port, self.child, patience)
        return self

    def stop(self):
        processes.stop(self.child, 60.0)
        self.child = None

    def _ask(self, port, method, path, body=None, headers=()):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def credentials(self):
        """The value of `Authorization` at the token endpoint."""
        return "Basic " + base64.b64encode(f"{CLIENT}:{self.secret}".encode()).decode()

    def token(self):
        fields = {"Authorization": self.credentials(),
                  "Content-Type": "application/x-www-form-urlencoded"}
        status, body = self._ask(self.port, "POST", "/oauth2/token",
                                 "grant_type=client_credentials", fields)
        assert status == 200, body
        return json.loads(body)["access_token"]

    def jwks(self):
        status, body = self._ask(self.port, "GET", "/.well-known/jwks.json")
        assert status == 200, body
        return json.loads(body)

    def rotate(self, **body):
        """A Rotate, or a purge; the answer's status and content."""
        token = (self.dir / "secrets/admin.token").read_text().strip()
        fields = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        status, answer = self._ask(self.admin_port, "POST", "/admin/v1/keys/rotate",
                                   json.dumps(body), fields)
        return status, json.loads(answer)

    def metrics(self):
        """All series now: (name, labels) → value."""
        status, body = self._ask(self.metrics_port, "GET", "/metrics")
        assert status == 200
        series = {}
        for line in body.decode().splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                series[name] = float(value)
        return series

    def cpu_ns(self):
        return processes.cpu_ns(self.child.pid)


def kid(token):
    """The kid in a token's header."""
    header = token.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))["kid"]


def _unpadded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _der(tag, content):
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + content


def spki(jwk):
    """The SubjectPublicKeyInfo (RFC 5280 §4.1) of an RSA or P-256 key, in DER."""
    if jwk["kty"] == "RSA":
        def integer(text):
            return _der(0x02, b"\0" + _unpadded(text))
        algorithm = _der(0x30, bytes.fromhex("06092a864886f70d0101010500"))
        key = _der(0x30, integer(jwk["n"]) + integer(jwk["e"]))
    else:
        algorithm = _der(0x30, bytes.fromhex("06072a8648ce3d020106082a8648ce3d030107"))
        key = b"\x04" + _unpadded(jwk["x"]) + _unpadded(jwk["y"])
    return _der(0x30, algorithm + _der(0x03, b"\0" + key))


def pem(jwk):
    """The same in PEM."""
    text = base64.encodebytes(spki(jwk)).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{text}-----END PUBLIC KEY-----\n"
