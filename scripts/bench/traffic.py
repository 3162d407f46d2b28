"""Mixed traffic for one gateway: good requests, refusals of each kind, clients that leave half-way."""

import base64
import collections
import json
import random
import re
import socket
import time

import gateway

# Of a token, in seconds; one is used no longer than a while before its end.
TTL, USE_FOR = 50, 40
# A wall of refused connections is no news after the first lines.
MOST_COMPLAINTS = 20


class Connection:
    """One kept connection, made when needed."""

    def __init__(self, port):
        self.port, self.socket, self.rest = port, None, b""

    def ask(self, request, body_expected=True):
        """Sends `request` and reads one answer: its status and body; None when there is none."""
        fresh = self.socket is None
        if fresh:
            self.socket = socket.create_connection(("127.0.0.1", self.port), 20)
        try:
            self.socket.sendall(request)
            return self._answer(body_expected)
        except (ConnectionError, EOFError):
            self.close()
            # A kept connection may have been closed just before; once more on a new one.
            return None if fresh else self.ask(request, body_expected)

    def _answer(self, body_expected):
        while b"\r\n\r\n" not in self.rest:
            self._more()
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        status = int(head.split(b" ", 2)[1])
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        length = int(length.group(1)) if length and body_expected else 0
        while len(self.rest) < length:
            self._more()
        body, self.rest = self.rest[:length], self.rest[length:]
        if re.search(rb"(?i)\r\nconnection: *close", head):
            self.close()
        return status, body

    def _more(self):
        piece = self.socket.recv(65536)
        if not piece:
            raise EOFError
        self.rest += piece

    def close(self):
        if self.socket:
            self.socket.close()
        self.socket, self.rest = None, b""


class Traffic:
    """The kinds of request, each with the statuses that are right for it."""

    # How often, of a thousand.
    WEIGHTS = {
        "good": 560, "identity": 100, "open": 60, "post": 40, "chunked": 20, "head": 10, "mint": 50,
        "fresh_connection": 30, "missing": 20, "forged": 30, "malformed": 15, "purged": 15,
        "no_route": 10, "bad_path": 5, "long_header": 5, "wrong_secret": 5, "half_header": 5,
        "half_body": 5, "jwks": 5, "admin_keys": 5, "admin_preview": 2, "admin_denied": 3,
    }

    def __init__(self, running, seed):
        self.running, self.random = running, random.Random(seed)
        self.kept = [Connection(running.port) for _ in range(8)]
        self.admin = Connection(running.admin_port)
        self.tokens, self.purged = collections.deque(), collections.deque(maxlen=50)
        self.left = collections.deque()
        self.counts, self.complaints = collections.Counter(), []
        self.unexpected, self.millis = 0, collections.deque(maxlen=20_000)
        self.kinds, self.weights = list(self.WEIGHTS), list(self.WEIGHTS.values())
        self.admin_token = (running.dir / "secrets/admin.token").read_text().strip()

    def one(self):
        kind = self.random.choices(self.kinds, self.weights)[0]
        self.counts[kind] += 1
        getattr(self, "do_" + kind)()

    def expect(self, kind, answer, *right):
        status = answer[0] if answer else 0
        if status not in right:
            self.unexpected += 1
            if len(self.complaints) < MOST_COMPLAINTS:
                self.complaints.append(f"{time.strftime('%H:%M:%S')} {kind}: {status}, not {right}: "
                                       f"{answer[1][:300] if answer else ''}")

    def token(self):
        now = time.monotonic()
        while self.tokens and now - self.tokens[0][1] > USE_FOR:
            self.tokens.popleft()
        if not self.tokens:
            self.do_mint()
        return self.random.choice(self.tokens)[0]

    def send(self, kind, right, method="GET", path="/orders/42", host=gateway.BARE, token=None,
             fields="", body=b"", connection=None):
        bearer = f"Authorization: Bearer {token}\r\n" if token else ""
        request = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{bearer}{fields}\r\n".encode() + body
        started = time.monotonic()
        answer = (connection or self.random.choice(self.kept)).ask(request, method != "HEAD")
        self.millis.append((time.monotonic() - started) * 1000)
        self.expect(kind, answer, *right)
        return answer

    def do_good(self):
        self.send("good", (200,), token=self.token())

    def do_identity(self):
        self.send("identity", (200,), host=gateway.FULL, token=self.token())

    def do_open(self):
        self.send("open", (200,), host=gateway.OPEN)

    def do_head(self):
        self.send("head", (200,), method="HEAD", token=self.token())

    def do_post(self):
        self.send("post", (200,), method="POST", token=self.token(), body=b"x" * 2000,
                  fields="Content-Length: 2000\r\n")

    def do_chunked(self):
        self.send("chunked", (200,), method="POST", token=self.token(),
                  fields="Transfer-Encoding: chunked\r\n", body=b"3e8\r\n" + b"y" * 1000 + b"\r\n0\r\n\r\n")

    def do_fresh_connection(self):
        connection = Connection(self.running.port)
        self.send("fresh_connection", (200,), token=self.token(), connection=connection)
        connection.close()

    def do_missing(self):
        self.send("missing", (401,))

    def do_forged(self):
        head, payload, signature = self.token().split(".")
        other = ("A" if signature[9] != "A" else "B")
        self.send("forged", (401, 429), token=f"{head}.{payload}.{signature[:9]}{other}{signature[10:]}")

    def do_malformed(self):
        self.send("malformed", (400, 401, 429), token=self.random.choice(["x", "a.b", "a.b.c.d", "a.b.c="]))

    def do_purged(self):
        if self.purged:
            self.send("purged", (401,), token=self.random.choice(self.purged))

    def do_no_route(self):
        self.send("no_route", (404,), host="nobody.test")

    def do_bad_path(self):
        self.send("bad_path", (400,), path="/a/../b")

    def do_long_header(self):
        self.send("long_header", (431,), fields=f"X-Long: {'x' * 40_000}\r\n")

    def do_mint(self):
        answer = self._ask_for_token(self.running.credentials())
        self.expect("mint", answer, 200)
        if answer and answer[0] == 200:
            self.tokens.append((json.loads(answer[1])["access_token"], time.monotonic()))

    def do_wrong_secret(self):
        wrong = "Basic " + base64.b64encode(b"bench:wrong").decode()
        self.expect("wrong_secret", self._ask_for_token(wrong), 401)

    def _ask_for_token(self, credentials):
        body = b"grant_type=client_credentials"
        request = (f"POST /oauth2/token HTTP/1.1\r\nHost: issuer.test\r\nAuthorization: {credentials}\r\n"
                   "Content-Type: application/x-www-form-urlencoded\r\n"
                   f"Content-Length: {len(body)}\r\n\r\n").encode() + body
        return self.random.choice(self.kept).ask(request)

    def _leave(self, begun):
        """A client that begins and is not heard of again; some of them never close."""
        one = socket.create_connection(("127.0.0.1", self.running.port), 20)
        one.sendall(begun)
        self.left.append((one, time.monotonic() + self.random.choice([0, 0, 2, 20])))

    def do_half_header(self):
        self._leave(b"GET / HTTP/1.1\r\nHost: a\r\nX-")

    def do_half_body(self):
        self._leave(f"POST /orders HTTP/1.1\r\nHost: {gateway.BARE}\r\nAuthorization: Bearer {self.token()}\r\n"
                    "Content-Length: 100000\r\n\r\n".encode() + b"z" * 10_000)

    def sweep(self):
        for _ in range(len(self.left)):
            one, until = self.left.popleft()
            if time.monotonic() < until:
                self.left.append((one, until))
            else:
                one.close()

    def do_jwks(self):
        self.send("jwks", (200,), path="/.well-known/jwks.json", host="issuer.test")

    def ask_admin(self, kind, path, right, token=None):
        request = (f"GET {path} HTTP/1.1\r\nHost: localhost\r\n"
                   f"Authorization: Bearer {token or self.admin_token}\r\n\r\n").encode()
        answer = self.admin.ask(request)
        self.expect(kind, answer, *right)
        return json.loads(answer[1]) if answer and answer[0] == 200 else {}

    def do_admin_keys(self):
        self.ask_admin("admin_keys", "/admin/v1/keys", (200,))

    def do_admin_preview(self):
        self.ask_admin("admin_preview", "/admin/v1/keys/preview?purge=true", (200,))

    def do_admin_denied(self):
        self.ask_admin("admin_denied", "/admin/v1/keys", (401, 429), token="wrong")

    def rotate(self):
        status, answer = self.running.rotate()
        self.expect("rotate", (status, json.dumps(answer)), 200)

    def purge(self):
        seen = self.ask_admin("before_purge", "/admin/v1/keys", (200,)).get("revision")
        status, answer = self.running.rotate(purge=True, seen_revision=seen)
        self.expect("purge", (status, json.dumps(answer)), 200)
        # Tokens are looked at again for a while: none may come back.
        self.purged.extend(token for token, _ in self.tokens)
        self.tokens.clear()
