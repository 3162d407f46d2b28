"""The sixteen requests of scripts/who-accepts: what each is, what is right for it, and who says so."""

import base64
import json
import pathlib
import subprocess
import time
import uuid

import gateway

HOST, SUBJECT = gateway.FULL, "bench"
# Order of the group of P-256 (SEC 2 §2.4.2).
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

ACCEPT, REFUSE, EITHER = "accept", "refuse", "either"


def _encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Key:
    """A private key that OpenSSL made; every contender knows its public half."""

    def __init__(self, openssl, folder, algorithm, kid):
        self.openssl, self.algorithm, self.kid = str(openssl), algorithm, kid
        self.pem = pathlib.Path(folder, f"{kid}.pem")
        how = {"RS256": ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
               "ES256": ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]}[algorithm]
        self._run("genpkey", "-out", self.pem, "-algorithm", *how)
        self.public_pem = self._run("pkey", "-in", self.pem, "-pubout").decode()

    def _run(self, *words, data=None):
        return subprocess.run([self.openssl, *map(str, words)], input=data, check=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout

    def signature(self, message, other_half=False):
        """The JWS signature; of ECDSA the second of the two that fit, (r, n − s), when asked."""
        made = self._run("dgst", "-sha256", "-sign", self.pem, data=message)
        if self.algorithm == "RS256":
            return made
        # SEQUENCE { INTEGER r, INTEGER s }, short lengths.
        length_r = made[3]
        r, s = (int.from_bytes(part, "big") for part in (made[4:4 + length_r], made[6 + length_r:]))
        if other_half:
            s = _ORDER - s
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def token(self, issuer, header=None, other_half=False, **claims):
        now = int(time.time())
        header = {"alg": self.algorithm, "kid": self.kid, "typ": "at+jwt", **(header or {})}
        claims = {"iss": issuer, "sub": SUBJECT, "client_id": SUBJECT, "aud": gateway.AUDIENCE,
                  "exp": now + 600, "iat": now - 5, "jti": str(uuid.uuid4()), "scope": "read", **claims}
        message = ".".join(_encode(json.dumps(part, separators=(",", ":")).encode())
                           for part in (header, claims))
        return f"{message}.{_encode(self.signature(message.encode(), other_half))}"


class Case:
    """A request, the right verdict, the rule, and what the case teaches."""

    def __init__(self, name, request, right, rule, teaches, upstream=None):
        self.name, self.request, self.right = name, request, right
        self.rule, self.teaches, self.upstream = rule, teaches, upstream


def _request(path="/orders", fields=(), connection="close"):
    lines = [f"GET {path} HTTP/1.1", f"Host: {HOST}", *fields, f"Connection: {connection}", "", ""]
    return "\r\n".join(lines).encode()


def _bearer(token, scheme="Bearer"):
    return f"Authorization: {scheme} {token}"


def cases(rsa, ec, issuer):
    """All of them but the removed key, which needs more than one request."""
    good = rsa.token(issuer)
    subject, outside = "the subject of the token and no other", "nothing below /admin"
    late = int(time.time()) - 30
    return [
        Case("a valid token", _request(fields=[_bearer(good)]), ACCEPT, "RFC 6750 §2.1",
             "the set-up works", subject),
        Case("`X-Auth-Subject: root` beside it", _request(fields=[_bearer(good), "X-Auth-Subject: root"]),
             ACCEPT, "RFC 9700 §4.13", "who sets an identity header has to remove the client's", subject),
        Case("`x_auth_subject: root` beside it", _request(fields=[_bearer(good), "x_auth_subject: root"]),
             EITHER, "RFC 3875 §4.1.18", "CGI, WSGI and others read `_` and `-` alike", subject),
        Case("`Connection: X-Auth-Subject` beside it",
             _request(fields=[_bearer(good)], connection="close, X-Auth-Subject"), EITHER,
             "RFC 9110 §7.6.1", "a hop-by-hop rule of the client's must not remove what the gateway set",
             subject),
        Case("two `Authorization` lines, the good one first",
             _request(fields=[_bearer(good), _bearer("x.y.z")]), REFUSE, "RFC 9110 §5.3",
             "the next reader may take the other one"),
        Case("two `Authorization` lines, the good one last",
             _request(fields=[_bearer("x.y.z"), _bearer(good)]), REFUSE, "RFC 9110 §5.3",
             "the next reader may take the other one"),
        Case("`authorization: bearer`, lower case", _request(fields=[_bearer(good, "bearer")]), ACCEPT,
             "RFC 9110 §11.1", "a scheme has no case"),
        Case("the token in the URL", _request(path=f"/orders?access_token={good}"), REFUSE,
             "RFC 9700 §4.3.2", "URLs end up in logs and in other sites' Referer"),
        Case("`crit` names an unknown extension",
             _request(fields=[_bearer(rsa.token(issuer, {"crit": ["urn:x"], "urn:x": 1}))]), REFUSE,
             "RFC 7515 §4.1.11", "its issuer said: refuse unless you understand this"),
        Case("`typ` is `JWT`", _request(fields=[_bearer(rsa.token(issuer, {"typ": "JWT"}))]), REFUSE,
             "RFC 9068 §4", "an ID token of the same issuer is no access token"),
        Case("two audiences, one of them ours",
             _request(fields=[_bearer(rsa.token(issuer, aud=["other", gateway.AUDIENCE]))]), ACCEPT,
             "RFC 7519 §4.1.3", "`aud` may be a list"),
        Case("expired 30 seconds ago", _request(fields=[_bearer(rsa.token(issuer, exp=late, iat=late - 600))]),
             EITHER, "RFC 7519 §4.1.4", "a small leeway is allowed, none is too"),
        Case("ES256 signature as (r, n − s)",
             _request(fields=[_bearer(ec.token(issuer, other_half=True))]), EITHER, "RFC 7518 §3.4",
             "one token has several texts: no list of refused tokens may go by the text"),
        Case("`=` behind the signature", _request(fields=[_bearer(good + "=")]), REFUSE, "RFC 7515 §2",
             "the same, without a key"),
        Case("`/public/..%2fadmin` without a token", _request(path="/public/..%2fadmin"), EITHER,
             "RFC 3986 §7.3", "gateway and service must read one path", outside),
    ]


REMOVED = Case("a token whose key was removed, seen before", b"", REFUSE, "RFC 9068 §4",
               "removing a key has to end what was cached")


def below_admin(path):
    """Whether a service that decodes and resolves `path` ends up below /admin."""
    import posixpath
    import urllib.parse
    plain = urllib.parse.unquote(path.split("?")[0]).replace("\\", "/")
    return (posixpath.normpath(plain) + "/").startswith("/admin/")


def judge(case, status, seen):
    """Whether an answer is right, and what to show of it. `seen` is what the upstream got."""
    if status != 200 or seen is None:
        return case.right != ACCEPT and 300 <= status < 500, str(status or "no answer")
    subjects = [value for name, value in seen["headers"]
                if name.lower().replace("_", "-") == "x-auth-subject"]
    if case.upstream and "admin" in case.upstream:
        return not below_admin(seen["path"]), f"200, upstream: `{seen['path']}`"
    if case.upstream:
        shown = ", ".join(subjects) or "nobody"
        return subjects == [SUBJECT], f"200, upstream: {shown}"
    return case.right != REFUSE, "200"
