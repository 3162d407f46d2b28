"""The contenders of scripts/who-accepts: one gateway each, which sets X-Auth-Subject from `sub`, asks no
token below /public/, and can be told to forget a key. Peers are set up as their documentation shows."""

import base64
import http.server
import json
import os
import re
import signal
import socket
import threading
import time

import gateway
import processes
from peers import _envoy


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answer):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                body = json.dumps(answer(self)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass
        super().__init__(("127.0.0.1", 0), Handler)
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, daemon=True).start()


def echo():
    """An upstream that answers with the request line and the header fields as they came."""
    return _Server(lambda got: {"path": got.path, "headers": got.headers.items()})


class Jwks(_Server):
    """A JWKS endpoint from which a key can be removed; counts how often it was read."""

    def __init__(self, keys):
        self.keys, self.reads = keys, 0
        super().__init__(self._read)

    def _read(self, _got):
        self.reads += 1
        return {"keys": self.keys}


def ask(port, request):
    """Status and body of one answer; 0 when there is none."""
    with socket.create_connection(("127.0.0.1", port), 20) as one:
        one.sendall(request)
        got = b""
        # Envoy closes a second after a refusal: whoever knows the length need not wait for that.
        while not _whole(got) and (piece := _received(one)):
            got += piece
    head, _, body = got.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1]) if head else 0
    if re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
        body = _chunks(body)
    try:
        return status, json.loads(body) if status == 200 else None
    except ValueError:
        return status, None


def _whole(got):
    head, end, body = got.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return bool(end and length and len(body) >= int(length.group(1)))


def _received(one):
    try:
        return one.recv(65536)
    except ConnectionError:
        return b""


def _chunks(body):
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        whole, body = whole + body[:length], body[length + 2:]
        if length == 0:
            break
    return whole


class Portcullis:
    name = "Portcullis"

    def __init__(self, binary, lab, upstream, keys):
        self.running = gateway.Gateway("ours", binary, lab, upstream, "ES256")
        path = self.running.dir / "portcullis.yaml"
        route = "  - { name: public, match: { prefix: /public }, auth: none, upstream: main }\n"
        path.write_text(path.read_text().replace("routes:\n", "routes:\n" + route))
        self.running.start()
        self.port, self.issuer = self.running.port, self.running.issuer
        for key in keys:
            self._admin("/admin/v1/keys/import",
                        {"pem": key.public_pem, "kid": key.kid, "max_ttl": "1h"})

    def _admin(self, path, body):
        token = (self.running.dir / "secrets/admin.token").read_text().strip()
        fields = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        status, answer = self.running._ask(self.running.admin_port, "POST", path, json.dumps(body), fields)
        if status != 200:
            raise SystemExit(f"{path}: {status} {answer.decode()}")

    def jwks(self):
        return self.running.jwks()["keys"]

    def forget(self, key):
        self._admin("/admin/v1/keys/rotate", {"purge": True, "kids": [key.kid]})
        return "at the purge"


class Envoy:
    """jwt_authn with a remote JWKS that is read every second."""

    def __init__(self, peers, upstream, jwks, issuer, cache=False, edge=False):
        self.name = "Envoy" + (", token cache" if cache else "") + (", edge settings" if edge else "")
        self.jwks = jwks
        provider = {
            "issuer": issuer, "audiences": [gateway.AUDIENCE], "forward": True,
            "claim_to_headers": [{"header_name": "x-auth-subject", "claim_name": "sub"}],
            "remote_jwks": {
                "http_uri": {"uri": f"http://127.0.0.1:{jwks.port}/", "cluster": "jwks", "timeout": "2s"},
                "cache_duration": "1s", "async_fetch": {"fast_listener": False}}}
        if cache:
            provider["jwt_cache_config"] = {"jwt_cache_size": 20000}
        self.port = processes.free_port()
        config = _envoy(self.port, upstream, provider)
        resources = config["static_resources"]
        manager = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
        rules = manager["http_filters"][0]["typed_config"]["rules"]
        rules.insert(0, {"match": {"prefix": "/public/"}})
        if edge:
            manager["normalize_path"] = True
            manager["merge_slashes"] = True
            manager["path_with_escaped_slashes_action"] = "UNESCAPE_AND_REDIRECT"
            manager["common_http_protocol_options"] = {"headers_with_underscores_action": "REJECT_REQUEST"}
        cluster = json.loads(json.dumps(resources["clusters"][0]))
        cluster["name"] = cluster["load_assignment"]["cluster_name"] = "jwks"
        for endpoint in cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]:
            endpoint["endpoint"]["address"]["socket_address"]["port_value"] = jwks.port
        resources["clusters"][0]["load_assignment"]["cluster_name"] = "u"
        resources["clusters"].append(cluster)
        folder = peers.lab / self.name.replace(" ", "-").replace(",", "")
        folder.mkdir(parents=True)
        (folder / "envoy.json").write_text(json.dumps(config))
        child = processes.start(
            [peers.bin / "envoy", "-c", folder / "envoy.json", "--concurrency", "1",
             "--disable-hot-restart", "-l", "error"], folder / "out.log")
        processes.wait_for_port(self.port, child)

    def forget(self, key):
        """Its JWKS has lost the key, and was read again at least twice by everybody who reads it."""
        self.jwks.keys = [one for one in self.jwks.keys if one["kid"] != key.kid]
        deadline, before = time.monotonic() + 30, self.jwks.reads
        while self.jwks.reads < before + 6 and time.monotonic() < deadline:
            time.sleep(0.05)
        return f"{self.jwks.reads - before} reads of the JWKS later"


class HAProxy:
    name = "HAProxy"

    def __init__(self, peers, upstream, keys, issuer):
        self.files = {key.kid: peers.lab / f"haproxy-{key.kid}.pem" for key in keys}
        for key in keys:
            self.files[key.kid].write_text(key.public_pem)
        deny = "  http-request deny deny_status 401"
        payload = "  http-request set-var(txn.{0}) var(txn.bearer),jwt_payload_query('$.{0}'{1})\n"
        checks = (
            "  acl public path_beg /public/\n"
            "  http-request del-header X-Auth-Subject\n"
            "  http-request set-var(txn.bearer) http_auth_bearer\n"
            "  http-request set-var(txn.alg) var(txn.bearer),jwt_header_query('$.alg')\n")
        for key in keys:
            checks += (f'  http-request set-var(txn.ok) var(txn.bearer),jwt_verify(txn.alg,"{self.files[key.kid]}") '
                       f"if {{ var(txn.alg) -m str {key.algorithm} }}\n")
        checks += (
            f"{deny} unless public or {{ var(txn.ok) -m int 1 }}\n"
            + payload.format("iss", "") + payload.format("aud", "") + payload.format("sub", "")
            + payload.format("exp", ",'int'")
            + "  http-request set-var(txn.now) date()\n"
            f"{deny} unless public or {{ var(txn.iss) -m str {issuer} }}\n"
            f"{deny} unless public or {{ var(txn.aud) -m str {gateway.AUDIENCE} }}\n"
            f"{deny} if !public {{ var(txn.exp),sub(txn.now) -m int lt 0 }}\n"
            "  http-request set-header X-Auth-Subject %[var(txn.sub)] if { var(txn.ok) -m int 1 }\n")
        self.make = lambda: peers.haproxy("haproxy", upstream, checks)
        self.child, self.port = self.make()

    def forget(self, key, other):
        self.files[key.kid].write_text(other.public_pem)
        return "file replaced"

    def reload(self):
        processes.stop(self.child)
        self.child, self.port = self.make()
        return "a restart"


class Nginx:
    name = "nginx + njs"

    def __init__(self, peers, upstream, keys, issuer, spki):
        self.port, self.folder = processes.free_port(), peers.lab / "nginx-njs"
        self.folder.mkdir(parents=True)
        self.issuer = issuer
        self._write({key.algorithm: spki(key.kid) for key in keys})
        self.child = peers._nginx(
            "nginx-njs", f"load_module {peers.modules}/ngx_http_js_module.so; worker_processes 1;",
            f"js_path {self.folder}; js_import jwt from jwt.js; "
            f"server {{ listen 127.0.0.1:{self.port}; "
            f"location /public/ {{ proxy_pass http://127.0.0.1:{upstream}; }} "
            "location / { auth_request /_auth; auth_request_set $subject $sent_http_x_subject; "
            "proxy_set_header X-Auth-Subject $subject; "
            f"proxy_pass http://127.0.0.1:{upstream}; }} "
            "location = /_auth { internal; js_content jwt.check; } }")
        processes.wait_for_port(self.port, self.child)

    def _write(self, keys):
        self.keys = keys
        encoded = {name: base64.b64encode(der).decode() for name, der in keys.items()}
        (self.folder / "jwt.js").write_text(
            _NJS.replace("@KEYS@", json.dumps(encoded)).replace("@ISS@", self.issuer)
            .replace("@AUD@", gateway.AUDIENCE))

    def forget(self, key, _other):
        self._write({name: der for name, der in self.keys.items() if name != key.algorithm})
        return "file replaced"

    def reload(self):
        os.kill(self.child.pid, signal.SIGHUP)
        return "a reload"


# As the njs documentation's examples verify a token, for two algorithms.
_NJS = """\
const KEYS = @KEYS@;
const HOW = {
  RS256: [{name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256'}, {name: 'RSASSA-PKCS1-v1_5'}],
  ES256: [{name: 'ECDSA', namedCurve: 'P-256'}, {name: 'ECDSA', hash: 'SHA-256'}],
};
async function check(r) {
  try {
    const sent = r.headersIn.Authorization;
    if (!sent || !sent.startsWith('Bearer ')) { r.return(401); return; }
    const part = sent.slice(7).split('.');
    if (part.length != 3) { r.return(401); return; }
    const header = JSON.parse(Buffer.from(part[0], 'base64url'));
    if (!KEYS[header.alg]) { r.return(401); return; }
    const kind = HOW[header.alg][0], how = HOW[header.alg][1];
    const key = await crypto.subtle.importKey('spki', Buffer.from(KEYS[header.alg], 'base64'), kind, false,
                                              ['verify']);
    const good = await crypto.subtle.verify(how, key, Buffer.from(part[2], 'base64url'),
                                            part[0] + '.' + part[1]);
    if (!good) { r.return(401); return; }
    const claims = JSON.parse(Buffer.from(part[1], 'base64url'));
    const fits = claims.exp >= Date.now() / 1000 && claims.iss === '@ISS@' &&
                 [].concat(claims.aud).includes('@AUD@');
    if (fits) { r.headersOut['X-Subject'] = claims.sub; }
    r.return(fits ? 200 : 401);
  } catch (error) { r.error('jwt ' + error); r.return(401); }
}
export default {check};
"""
