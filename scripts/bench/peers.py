"""The upstream and the peers, each in the set-up that its own documentation recommends for speed."""

import base64
import json
import os
import pathlib

import gateway
import processes

# 150 bytes.
_BODY = '{"status":"ok","items":[1,2,3],"service":"orders","padding":"' + "x" * 86 + '"}\\n'


class Peers:
    """Starts them below the folder `lab`; `bin` is what scripts/bootstrap made."""

    def __init__(self, peers, lab):
        self.bin, self.modules = pathlib.Path(peers, "bin"), pathlib.Path(peers, "modules")
        self.lab = pathlib.Path(lab)

    def missing(self, name):
        return not os.access(self.bin / name, os.X_OK)

    def no_njs(self):
        return self.missing("nginx") or not (self.modules / "ngx_http_js_module.so").exists()

    # ---- nginx

    def _nginx(self, name, main, http):
        folder = self.lab / name
        folder.mkdir(parents=True, exist_ok=True)
        user = "user root;" if os.geteuid() == 0 else ""
        temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in
                             ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (folder / "nginx.conf").write_text(
            f"{main}\n{user} daemon off; pid {folder}/pid; error_log {folder}/error.log error;\n"
            "worker_rlimit_nofile 20000;\nevents { worker_connections 8192; }\n"
            "http { access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; "
            f"tcp_nodelay on; large_client_header_buffers 8 16k; {temporary}\n{http}\n}}\n")
        return processes.start([self.bin / "nginx", "-e", folder / "error.log", "-p", folder,
                                "-c", folder / "nginx.conf"], folder / "out.log")

    def upstream(self):
        """The port of an nginx in one process that answers 150 bytes."""
        port = processes.free_port()
        child = self._nginx(
            "upstream", "master_process off;",
            f"server {{ listen 127.0.0.1:{port} backlog=4096; location / "
            f"{{ default_type application/json; return 200 '{_BODY}'; }} }}")
        processes.wait_for_port(port, child)
        return port

    @staticmethod
    def _proxy(upstream):
        return (f"upstream u {{ server 127.0.0.1:{upstream}; keepalive 256; "
                "keepalive_requests 1000000000; keepalive_timeout 600s; }")

    def nginx_plain(self, upstream):
        port = processes.free_port()
        child = self._nginx(
            "nginx-plain", "worker_processes 2;",
            f"{self._proxy(upstream)} server {{ listen 127.0.0.1:{port} backlog=4096; location / "
            '{ proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ""; } }')
        processes.wait_for_port(port, child)
        return child, port

    def nginx_njs(self, upstream, jwk, issuer):
        port = processes.free_port()
        folder = self.lab / "nginx-njs"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "jwt.js").write_text(
            _NJS.replace("@SPKI@", base64.b64encode(gateway.spki(jwk)).decode())
            .replace("@ISS@", issuer).replace("@AUD@", gateway.AUDIENCE))
        child = self._nginx(
            "nginx-njs",
            f"load_module {self.modules}/ngx_http_js_module.so; worker_processes 2;",
            f"js_path {folder}; js_import jwt from jwt.js; {self._proxy(upstream)} "
            f"server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ auth_request /_auth; "
            'proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ""; } '
            "location = /_auth { internal; js_content jwt.check; } }")
        processes.wait_for_port(port, child)
        return child, port

    # ---- HAProxy

    def haproxy(self, name, upstream, checks=""):
        port = processes.free_port()
        folder = self.lab / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "haproxy.cfg").write_text(
            "global\n  maxconn 8192\n  nbthread 2\n  tune.bufsize 16384\n"
            "defaults\n  mode http\n  timeout connect 5s\n  timeout client 600s\n"
            "  timeout server 600s\n  http-reuse always\n"
            f"frontend fe\n  bind 127.0.0.1:{port}\n{checks}  default_backend be\n"
            f"backend be\n  server s1 127.0.0.1:{upstream} pool-max-conn -1\n")
        child = processes.start([self.bin / "haproxy", "-db", "-f", folder / "haproxy.cfg"],
                                folder / "out.log")
        processes.wait_for_port(port, child)
        return child, port

    def haproxy_jwt(self, name, upstream, jwk, algorithm, issuer):
        key = self.lab / f"{name}.pem"
        key.write_text(gateway.pem(jwk))
        deny = "  http-request deny deny_status 401"
        payload = "  http-request set-var(txn.{0}) var(txn.bearer),jwt_payload_query('$.{0}'{1})\n"
        return self.haproxy(name, upstream, (
            "  http-request set-var(txn.bearer) http_auth_bearer\n"
            "  http-request set-var(txn.alg) var(txn.bearer),jwt_header_query('$.alg')\n"
            f"{deny} unless {{ var(txn.alg) -m str {algorithm} }}\n"
            f'{deny} unless {{ var(txn.bearer),jwt_verify(txn.alg,"{key}") -m int 1 }}\n'
            + payload.format("iss", "") + payload.format("aud", "") + payload.format("exp", ",'int'")
            + "  http-request set-var(txn.now) date()\n"
            f"{deny} unless {{ var(txn.iss) -m str {issuer} }}\n"
            f"{deny} unless {{ var(txn.aud) -m str {gateway.AUDIENCE} }}\n"
            f"{deny} if {{ var(txn.exp),sub(txn.now) -m int lt 0 }}\n"))

    # ---- Envoy

    def envoy(self, name, upstream, provider=None):
        port = processes.free_port()
        folder = self.lab / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "envoy.json").write_text(json.dumps(_envoy(port, upstream, provider)))
        child = processes.start(
            [self.bin / "envoy", "-c", folder / "envoy.json", "--concurrency", "2",
             "--disable-hot-restart", "-l", "error"], folder / "out.log")
        processes.wait_for_port(port, child)
        return child, port

    def envoy_jwt(self, name, upstream, jwks, issuer, cache):
        provider = {"issuer": issuer, "audiences": [gateway.AUDIENCE], "forward": True,
                    "local_jwks": {"inline_string": json.dumps(jwks)}}
        if cache:
            provider["jwt_cache_config"] = {"jwt_cache_size": 20000}
        return self.envoy(name, upstream, provider)


_NJS = """\
const SPKI = Buffer.from('@SPKI@', 'base64');
async function check(r) {
  try {
    const sent = r.headersIn.Authorization;
    if (!sent || !sent.startsWith('Bearer ')) { r.return(401); return; }
    const part = sent.slice(7).split('.');
    if (part.length != 3) { r.return(401); return; }
    const header = JSON.parse(Buffer.from(part[0], 'base64url'));
    if (header.alg !== 'RS256') { r.return(401); return; }
    const alg = {name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256'};
    const key = await crypto.subtle.importKey('spki', SPKI, alg, false, ['verify']);
    const good = await crypto.subtle.verify(alg, key, Buffer.from(part[2], 'base64url'),
                                            part[0] + '.' + part[1]);
    if (!good) { r.return(401); return; }
    const claims = JSON.parse(Buffer.from(part[1], 'base64url'));
    const fits = claims.exp >= Date.now() / 1000 && claims.iss === '@ISS@' && claims.aud === '@AUD@';
    r.return(fits ? 200 : 401);
  } catch (error) { r.error('jwt ' + error); r.return(401); }
}
export default {check};
"""


def _envoy(port, upstream, provider):
    def typed(name, **fields):
        return {"@type": f"type.googleapis.com/envoy.extensions.filters.{name}", **fields}

    def address(number):
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}
    filters = [{"name": "envoy.filters.http.router",
                "typed_config": typed("http.router.v3.Router")}]
    if provider:
        filters.insert(0, {
            "name": "envoy.filters.http.jwt_authn",
            "typed_config": typed(
                "http.jwt_authn.v3.JwtAuthentication", providers={"p": provider},
                rules=[{"match": {"prefix": "/"}, "requires": {"provider_name": "p"}}])})
    manager = typed(
        "network.http_connection_manager.v3.HttpConnectionManager", stat_prefix="x",
        generate_request_id=False, http_filters=filters,
        route_config={"virtual_hosts": [{
            "name": "v", "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "u", "timeout": "0s"}}]}]})
    limits = {"max_connections": 10000, "max_pending_requests": 10000, "max_requests": 10000}
    return {"static_resources": {
        "listeners": [{
            "address": address(port),
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": manager}]}]}],
        "clusters": [{
            "name": "u", "type": "STATIC", "circuit_breakers": {"thresholds": [limits]},
            "load_assignment": {"cluster_name": "u", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": address(upstream)}}]}]}}]}}
