"""The cases of the comparison, and the rounds in which they are measured in turns."""

import random

import gateway
from gateway import BARE, FULL, OPEN
from load import Target

# Settings (section `server`) of a gateway without a cache of verified tokens.
NO_CACHE = {"token_cache_entries": 0}

TOKENS = 10_000

# name → (what it is, short); the order is that of the table.
CASES = {
    "nginx-plain": "nginx, no auth",
    "haproxy-plain": "HAProxy, no auth",
    "envoy-plain": "Envoy, no auth",
    "open": "Portcullis, `auth: none` route",
    "cached": "Portcullis, RS256, 10k tokens cached",
    "full": "the same with identity headers",
    "everything": "the same with identity headers and an access log",
    "miss": "Portcullis, RS256, every token verified",
    "cached-es256": "Portcullis, ES256, 10k tokens cached",
    "cached-eddsa": "Portcullis, EdDSA, 10k tokens cached",
    "miss-es256": "Portcullis, ES256, every token verified",
    "unsharded-open": "Portcullis, `sharding: false`, `auth: none` route",
    "stock-open": "Portcullis, `sharding: false`, glibc's allocator, `auth: none` route",
    "stock-cached": "the same, RS256, 10k tokens cached",
    "haproxy-rs256": "HAProxy jwt_verify RS256 + iss, aud, exp",
    "haproxy-es256": "HAProxy jwt_verify ES256 + iss, aud, exp",
    "envoy-rs256": "Envoy jwt_authn RS256",
    "envoy-rs256-cache": "Envoy jwt_authn RS256 with its token cache",
    "njs-rs256": "nginx + njs RS256 + iss, aud, exp",
}

# Case, what it is compared with, target, not above.
RATIOS = [
    ("cached", "open", "cached with 10k tokens : `auth: none` route", 1.06, 1.12),
    ("cached", "haproxy-rs256", "cached : HAProxy jwt_verify RS256 + claims", 0.45, 0.55),
    ("cached", "envoy-rs256-cache", "cached : Envoy jwt_authn with its token cache", 0.42, 0.55),
    ("cached", "haproxy-plain", "cached : plain HAProxy without any auth", 1.6, 2.0),
    ("open", "stock-open", "tuned : stock Pingora set-up (no sharding, glibc's allocator)", 0.60, 0.70),
    ("open", "unsharded-open", "sharded : not sharded, same binary", None, None),
    ("miss", "haproxy-rs256", "all misses, RS256 : HAProxy RS256", 1.0, 1.2),
    ("miss-es256", "haproxy-es256", "all misses, ES256 : HAProxy ES256", None, None),
    ("cached", "njs-rs256", "cached : nginx + njs RS256", None, None),
    ("full", "cached", "with identity headers : without", None, None),
    ("everything", "cached", "with identity headers and an access log : without", None, None),
]


class Bench:
    """Everything that runs beside the loads: upstream, gateways, peers, tokens."""

    def __init__(self, binary, stock, lab, peers, wrk):
        self.binary, self.stock, self.lab, self.peers, self.wrk = binary, stock, lab, peers, wrk
        self.upstream = peers.upstream()
        self._gateways, self._tokens, self._keys = {}, {}, {}

    def gateway(self, name):
        """A gateway, started when first asked for; those of one algorithm share their keys."""
        if name in self._gateways:
            return self._gateways[name]
        kind, _, algorithm = name.partition("-")
        algorithm = {"rs256": "RS256", "es256": "ES256", "eddsa": "EdDSA"}[algorithm]
        first = self._keys.get(algorithm)
        if first is None:
            first = gateway.Gateway(f"keys-{algorithm}", self.binary, self.lab, self.upstream,
                                    algorithm)
            self._keys[algorithm] = first
        settings = {
            "tuned": {},
            "miss": {"server": NO_CACHE},
            "unsharded": {"sharding": False},
            "stock": {"sharding": False},
            "logged": {"more": f"access_log: {{ target: {self.lab}/access.log }}"},
        }[kind]
        binary = self.stock if kind == "stock" else self.binary
        made = gateway.Gateway(name, binary, self.lab, self.upstream, algorithm, keys_of=first,
                               **settings)
        self._gateways[name] = made.start()
        return made

    def tokens(self, algorithm, count=TOKENS):
        key = (algorithm, count)
        if key not in self._tokens:
            self._tokens[key] = self.wrk.mint(self.gateway(f"tuned-{algorithm}"), count)
        return self._tokens[key]

    def key(self, algorithm):
        """The public key that signs now."""
        with open(self.tokens(algorithm)) as tokens:
            kid = gateway.kid(tokens.readline())
        keys = self.gateway(f"tuned-{algorithm}").jwks()["keys"]
        return next(key for key in keys if key["kid"] == kid)

    def target(self, case):
        """Starts what the case needs; `None` when this machine lacks the peer."""
        ours = {
            "open": ("tuned-rs256", OPEN), "cached": ("tuned-rs256", BARE),
            "full": ("tuned-rs256", FULL), "everything": ("logged-rs256", FULL), "miss": ("miss-rs256", BARE),
            "cached-es256": ("tuned-es256", BARE), "cached-eddsa": ("tuned-eddsa", BARE),
            "miss-es256": ("miss-es256", BARE), "unsharded-open": ("unsharded-rs256", OPEN),
            "stock-open": ("stock-rs256", OPEN), "stock-cached": ("stock-rs256", BARE),
        }
        if case in ours:
            name, host = ours[case]
            if name.startswith("stock") and not self.stock:
                return None
            running = self.gateway(name)
            return Target(running.child.pid, running.port, host)
        peers = self.peers
        if peers.no_njs() if case.startswith("njs") else peers.missing(case.split("-")[0]):
            return None
        issuer = self.gateway("tuned-rs256").issuer
        if case == "nginx-plain":
            child, port = peers.nginx_plain(self.upstream)
        elif case == "njs-rs256":
            child, port = peers.nginx_njs(self.upstream, self.key("rs256"), issuer)
        elif case == "haproxy-plain":
            child, port = peers.haproxy(case, self.upstream)
        elif case.startswith("haproxy"):
            algorithm = case.split("-")[1]
            child, port = peers.haproxy_jwt(
                case, self.upstream, self.key(algorithm), algorithm.upper(),
                self.gateway(f"tuned-{algorithm}").issuer)
        elif case == "envoy-plain":
            child, port = peers.envoy(case, self.upstream)
        else:
            jwks = self.gateway("tuned-rs256").jwks()
            child, port = peers.envoy_jwt(case, self.upstream, jwks, issuer, "cache" in case)
        return Target(child.pid, port, BARE)


def algorithm_of(case):
    last = case.split("-")[-1]
    return last if last in ("es256", "eddsa") else "rs256"


def compare(bench, wanted, rounds, seconds, warm, say):
    """Measures every case once a round, in an order of its own each time."""
    targets = {}
    for case in wanted:
        target = bench.target(case)
        if target is None:
            say(f"left out, not on this machine: {case}")
        else:
            targets[case] = (target, bench.tokens(algorithm_of(case)))
    # Everything is cached, connected and paged in before the first figure counts.
    for target, tokens in targets.values():
        bench.wrk.measure(target, tokens, TOKENS, max(warm, 2))
    results = []
    order, shuffle = list(targets), random.Random(1)
    for number in range(rounds):
        shuffle.shuffle(order)
        figures = {}
        for case in order:
            target, tokens = targets[case]
            figures[case] = bench.wrk.measure(target, tokens, TOKENS, seconds, warm=warm)
        results.append(figures)
        say(f"round {number + 1} of {rounds}: " + ", ".join(
            f"{case} {figures[case]['cpu_us']:.1f}" for case in targets) + " µs")
    return results
