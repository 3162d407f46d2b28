//! One history: every step is done to the real thing and to the reference, and both must show the
//! same answer, the same keys and the same verdict on every token at hand.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use portcullis::clock::Timestamp;
use portcullis::keygen::KeyGenerator as _;
use portcullis::keys::timing::{IsolationGrace, Timing};
use portcullis::keys::{Algorithm, KeySet, Kid};
use portcullis::lifecycle::published::Permit;
use portcullis::token::{Rejection, RouteRules};
use serde_json::json;
use uuid::Uuid;

use super::oracle::{Answer, Book, Claim, Fault, Import, Key, Legacy, Oracle, Order, Scope, Stage};
use super::real::{self, Real};
use super::rng::Rng;
use super::truth::{
    self, CLIENTS, ClientAct, Clients, ISSUER, OLD_AUDIENCE, OLD_ISSUER, Token, Verdict, verdict,
};

/// Tokens that are looked at again and again; more would only cost time.
const POOL: usize = 10;

/// Admitted requests that are left open.
const OPEN: usize = 6;

/// What a step does; all that is random in it follows from [`Op::pick`], so that steps can be left
/// out of a history without changing the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Wait,
    Edge,
    Back,
    Leap,
    Rotate,
    Purge,
    PurgeSome,
    Restore,
    Mark,
    Import,
    Tick,
    Issue,
    Forge,
    Look,
    Restart,
    Client,
}

#[derive(Clone, Copy, Debug)]
pub struct Op {
    pub what: What,
    pub pick: u64,
}

/// The steps of a history. One in sixteen takes over so many keys that the set becomes full.
pub fn history(seed: u64, steps: usize) -> Vec<Op> {
    let mut rng = Rng::new(seed);
    let crowded = rng.chance(6);
    // A crowd grows where little time passes and little is purged.
    let calm = |weight, crowded_weight| if crowded { crowded_weight } else { weight };
    let weights = [
        (calm(14, 5), What::Wait),
        (calm(16, 4), What::Edge),
        (1, What::Back),
        (calm(2, 0), What::Leap),
        (calm(14, 10), What::Rotate),
        (calm(3, 0), What::Purge),
        (calm(7, 1), What::PurgeSome),
        (calm(7, 2), What::Restore),
        (calm(2, 1), What::Mark),
        (calm(4, 60), What::Import),
        (calm(8, 1), What::Tick),
        (calm(12, 5), What::Issue),
        (calm(14, 5), What::Forge),
        (calm(6, 2), What::Look),
        (calm(3, 1), What::Restart),
        (calm(3, 1), What::Client),
    ];
    let mut op = || Op {
        what: rng.weighted(&weights),
        pick: rng.next(),
    };
    std::iter::repeat_with(&mut op).take(steps).collect()
}

/// How often everything was seen, by name.
pub type Seen = BTreeMap<String, u64>;

pub struct Play {
    real: Real,
    oracle: Oracle,
    clients: Clients,
    /// The latest moment so far.
    latest: Timestamp,
    /// The longest token life time of the first configuration.
    longest: Duration,
    tokens: Vec<Token>,
    /// Requests that go on, and which key of the reference admitted each.
    open: Vec<(Permit, usize)>,
    routes: [RouteRules; 3],
    imports: u32,
    /// The keys that were compared last: what the store holds, and what is in force.
    compared: [u64; 2],
    pub seen: Seen,
    /// What was done, in words; empty unless asked for.
    pub trace: Option<Vec<String>>,
}

type Checked = Result<(), String>;

impl Play {
    pub fn new(seed: u64, traced: bool) -> Self {
        let mut rng = Rng::new(seed);
        let timing = timing(rng.below(3));
        let algorithm = if rng.chance(8) {
            Algorithm::Es256
        } else {
            Algorithm::EdDsa
        };
        let now = Timestamp::from_millis(1_800_000_000_000 + rng.below(1000) as i64);
        let mut real = Real::new(rng.next(), &timing, algorithm, now);
        real.begin(None);
        let mut names = real.end();
        names.made = vec![names.active.0.clone(), names.pending.0.clone()];
        let oracle = Oracle::new(timing.clone(), algorithm, &names, now);
        let route = |audiences: &[&str], any: &[&str], all: &[&str]| {
            let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
            RouteRules {
                audiences: texts(audiences),
                scopes_any: texts(any),
                scopes_all: texts(all),
            }
        };
        let mut play = Self {
            real,
            oracle,
            clients: Clients::default(),
            latest: now,
            longest: timing.max_token_ttl,
            tokens: Vec::new(),
            open: Vec::new(),
            routes: [
                route(&["api"], &["read", "write"], &[]),
                route(&["api", "billing"], &[], &["admin"]),
                route(&["billing", "api"], &[], &[]),
            ],
            imports: 0,
            compared: [0, 0],
            seen: Seen::new(),
            trace: traced.then(Vec::new),
        };
        let started = play.real.restart(timing.max_token_ttl, algorithm);
        assert_eq!(started, Answer::Started);
        play
    }

    /// Does one step on both sides and compares them.
    pub fn step(&mut self, op: Op) -> Checked {
        let mut rng = Rng::new(op.pick);
        let before = self.oracle.in_force.revision;
        match op.what {
            What::Wait => self.wait(&mut rng),
            What::Edge => self.go_to_edge(&mut rng),
            What::Back => {
                let hour = Duration::from_secs(3600);
                let by = *rng
                    .pick(&[hour, hour, Duration::from_secs(2)])
                    .expect("some");
                self.set_clock(self.real.now().minus(by));
            }
            What::Leap => {
                let hours = *rng.pick(&[1, 2, 24, 24 * 8]).expect("some");
                self.set_clock(self.real.now().plus(Duration::from_secs(hours * 3600)));
            }
            What::Rotate => self.rotate(&mut rng)?,
            What::Purge => self.purge(&mut rng, false)?,
            What::PurgeSome => self.purge(&mut rng, true)?,
            What::Restore => self.restore(&mut rng)?,
            What::Mark => self.mark(&mut rng)?,
            What::Import => self.import(&mut rng)?,
            What::Tick => self.tick(&mut rng)?,
            What::Issue => self.issue(&mut rng)?,
            What::Forge => self.forge(&mut rng),
            What::Look => {}
            What::Restart => self.restart(&mut rng)?,
            What::Client => self.client(&mut rng)?,
        }
        self.compare_keys()?;
        self.compare_open()?;
        if self.oracle.in_force.revision != before {
            (0..self.tokens.len()).try_for_each(|at| self.look(at, &mut rng))
        } else {
            let few = if op.what == What::Look { 4 } else { 2 };
            (0..few.min(self.tokens.len())).try_for_each(|_| {
                let at = rng.index(self.tokens.len());
                self.look(at, &mut rng)
            })
        }
    }

    /// The audit trail has one record for each revision, and the store gives back what it took.
    pub fn finish(&self) -> Checked {
        let revisions: Vec<u64> = self.real.audit().iter().map(|it| it.revision).collect();
        let all: Vec<u64> = (1..=self.oracle.stored.revision).collect();
        equal("revisions in the audit trail", &revisions, &all)?;
        equal("reloaded set", &self.real.reloaded(), &*self.real.stored())
    }

    fn wait(&mut self, rng: &mut Rng) {
        let window = self.oracle.timing.idempotency_window;
        let longest = self.oracle.timing.max_token_ttl;
        let up_to = *rng.pick(&[window, window * 2, longest / 4]).expect("some");
        let up_to = u64::try_from(up_to.as_millis()).expect("short");
        let by = Duration::from_millis(rng.below(up_to));
        self.set_clock(self.real.now().plus(by));
    }

    /// To a moment at which something changes, or to the millisecond before or after it.
    fn go_to_edge(&mut self, rng: &mut Rng) {
        let now = self.real.now();
        let mut edges = self.oracle.edges();
        let leeway = self.oracle.timing.leeway;
        for token in &self.tokens {
            edges.push(Timestamp::from_seconds(token.exp).plus(leeway));
            edges.push(Timestamp::from_seconds(token.iat).minus(leeway));
        }
        edges.retain(|edge| *edge > now);
        edges.sort_unstable();
        edges.truncate(8);
        if let Some(edge) = rng.pick(&edges) {
            let by = i64::try_from(rng.below(3)).expect("small") - 1;
            self.set_clock(Timestamp::from_millis(edge.as_millis() + by));
        }
    }

    fn set_clock(&mut self, now: Timestamp) {
        self.real.set_clock(now);
        self.latest = self.latest.max(now);
        self.note(|| format!("clock {now}"));
    }

    fn rotate(&mut self, rng: &mut Rng) -> Checked {
        let mut order = self.order(rng, "rotate");
        if rng.chance(40) {
            order.seen = None;
        }
        let fault = self.begin(rng);
        let got = self.real.rotate(&order);
        let names = self.real.end();
        let expected = self.oracle.rotate(&order, self.real.now(), &names);
        self.answered("rotate", &(order, fault), got, expected)
    }

    fn purge(&mut self, rng: &mut Rng, some: bool) -> Checked {
        let undo = rng.chance(50);
        let scope = if some {
            let kids = (0..=rng.below(2)).map(|_| self.some_kid(rng)).collect();
            let keep_pending = rng.chance(50);
            Scope::Kids { kids, keep_pending }
        } else {
            Scope::All
        };
        let mut order = self.order(rng, if some { "some" } else { "all" });
        if some && rng.chance(60) {
            order.seen = None;
        }
        let fault = self.begin(rng);
        let got = self.real.purge(&order, &scope, undo);
        let names = self.real.end();
        let now = self.real.now();
        let expected = self.oracle.purge(&order, &scope, undo, now, &names);
        self.answered("purge", &(order, scope, undo, fault), got, expected)
    }

    fn restore(&mut self, rng: &mut Rng) -> Checked {
        let kid = self.some_dead_kid(rng);
        let order = self.plain_order(rng);
        let fault = self.begin(rng);
        let got = self.real.restore(&order, &kid);
        self.real.end();
        let expected = self.oracle.restore(&kid, self.real.now());
        self.answered("restore", &(kid, fault), got, expected)
    }

    fn mark(&mut self, rng: &mut Rng) -> Checked {
        let kids: Vec<Kid> = (0..=rng.below(2))
            .map(|_| self.some_dead_kid(rng))
            .collect();
        let order = self.plain_order(rng);
        let fault = self.begin(rng);
        let got = self.real.mark_compromised(&order, &kids);
        self.real.end();
        let expected = self.oracle.mark_compromised(&kids, &order, self.real.now());
        self.answered("mark_compromised", &(kids, fault), got, expected)
    }

    fn import(&mut self, rng: &mut Rng) -> Checked {
        let existing = rng.chance(14);
        let key = if existing {
            self.real.chest.get(rng.index(self.real.chest.len()))
        } else {
            let es256 = rng.chance(6);
            let alg = if es256 {
                Algorithm::Es256
            } else {
                Algorithm::EdDsa
            };
            self.real.chest.generate(alg).expect("a key");
            self.real.chest.get(self.real.chest.len() - 1)
        };
        self.imports += 1;
        let kid = match rng.below(100) {
            0..40 => key.half.clone(),
            40..88 => format!("former-{}", self.imports).parse().expect("a kid"),
            88..94 => self.some_kid(rng),
            // The name that another key of the former system would have by default.
            _ => self.real.chest.get(rng.index(self.real.chest.len())).half,
        };
        let seconds = Duration::from_secs;
        let text = |rng: &mut Rng, text: &str| rng.chance(60).then(|| text.to_owned());
        let import = Import {
            kid,
            half: key.half.clone(),
            alg: key.alg,
            max_ttl: match rng.below(100) {
                0..3 => Duration::ZERO,
                3..6 => seconds(24 * 3600 + 1),
                6..12 => seconds(24 * 3600),
                12..50 => self.longest * 2,
                50..70 => self.longest,
                _ => seconds(1 + rng.below(20)),
            },
            legacy: Legacy {
                iss: text(rng, OLD_ISSUER),
                aud: text(rng, OLD_AUDIENCE),
                typ: text(rng, "JWT"),
            },
            active: rng.chance(25),
        };
        let order = self.plain_order(rng);
        let fault = self.begin(rng);
        let got = self.real.import(&order, &import, &key);
        self.real.end();
        let expected = self.oracle.import(&import, &order, self.real.now());
        self.answered("import", &(import, fault), got, expected)
    }

    fn tick(&mut self, rng: &mut Rng) -> Checked {
        let fault = self.begin(rng);
        let got = self.real.tick();
        let names = self.real.end();
        let expected = self.oracle.tick(self.real.now(), &names);
        self.answered("tick", &fault, got, expected)
    }

    /// A crash, then a start with the same configuration or another one; after a start that failed
    /// a second one.
    fn restart(&mut self, rng: &mut Rng) -> Checked {
        let max_ttl = match rng.below(4) {
            0 => self.longest / 2,
            1 => self.longest * 5 / 4,
            _ => self.oracle.timing.max_token_ttl,
        };
        let max_ttl = Duration::from_secs(max_ttl.as_secs());
        let algorithm = match rng.below(20) {
            0 => Algorithm::Es256,
            1..4 => Algorithm::EdDsa,
            _ => self.oracle.algorithm,
        };
        let mut fault = self.begin(rng);
        self.open.clear();
        loop {
            let got = self.real.restart(max_ttl, algorithm);
            let names = self.real.end();
            let now = self.real.now();
            let expected = self.oracle.start(max_ttl, algorithm, now, &names);
            self.answered("start", &(max_ttl, algorithm, fault), got, expected)?;
            if self.real.is_up() {
                return Ok(());
            }
            fault = None;
            self.real.begin(None);
            self.oracle.expect_fault(None);
        }
    }

    fn client(&mut self, rng: &mut Rng) -> Checked {
        let client = *rng.pick(&CLIENTS).expect("some");
        let acts = [
            ClientAct::Disable,
            ClientAct::Enable,
            ClientAct::Enable,
            ClientAct::Invalidate,
        ];
        let act = *rng.pick(&acts).expect("some");
        let got = self.real.change_client(client, act);
        *self
            .seen
            .entry(format!("client: {act:?} {got}"))
            .or_default() += 1;
        self.note(|| format!("client {client} {act:?} -> {got}"));
        let expected = self.clients.act(client, act, self.real.now());
        equal("whether the client was changed", &got, &expected)
    }

    fn begin(&mut self, rng: &mut Rng) -> Option<Fault> {
        let faults = [
            Fault::Load,
            Fault::Before,
            Fault::After,
            Fault::After,
            Fault::Race,
        ];
        let fault = rng.chance(10).then(|| *rng.pick(&faults).expect("some"));
        self.real.begin(fault);
        self.oracle.expect_fault(fault);
        fault
    }

    fn answered(
        &mut self,
        what: &str,
        asked: &dyn std::fmt::Debug,
        got: Answer,
        expected: Answer,
    ) -> Checked {
        self.oracle.expect_fault(None);
        let name = match &got {
            Answer::Rotated {
                changed, replayed, ..
            } => format!("{what}: changed={changed} replayed={replayed}"),
            Answer::Refused(refused) => {
                let text = format!("{refused:?}");
                let word = text.split(['(', ' ']).next().unwrap_or_default();
                format!("{what}: refused {word}")
            }
            Answer::Ticked(_) => format!("{what}: done"),
            other => format!("{what}: {other:?}"),
        };
        *self.seen.entry(name).or_default() += 1;
        self.note(|| format!("{what} {asked:?} -> {got:?}"));
        equal(&format!("answer of {what}"), &got, &expected)
    }

    fn plain_order(&self, rng: &mut Rng) -> Order {
        Order {
            id: Uuid::from_u64_pair(rng.next(), rng.next()),
            actor: if rng.chance(80) { "ops" } else { "night" },
            seen: None,
            claim: None,
        }
    }

    /// An order by somebody who looked now, or some revisions ago; with an `Idempotency-Key` that
    /// is new or was used before, for the same or for something else.
    fn order(&self, rng: &mut Rng, body: &str) -> Order {
        let mut order = self.plain_order(rng);
        let revision = self.oracle.stored.revision;
        order.seen = match rng.below(100) {
            0..15 => None,
            15..60 => Some(revision),
            60..94 => Some(revision.saturating_sub(1 + rng.below(6))),
            _ => Some(revision + 1 + rng.below(2)),
        };
        if !rng.chance(30) {
            return order;
        }
        let mut claim = Claim {
            key: format!("{:016x}", rng.next()),
            body: body.to_owned(),
        };
        let earlier = &self.oracle.stored.results;
        let same: Vec<_> = earlier
            .iter()
            .filter(|kept| kept.claim.body == body)
            .collect();
        if rng.chance(60) {
            let same = if rng.chance(70) { same } else { Vec::new() };
            if let Some(kept) = rng.pick(&same) {
                claim = kept.claim.clone();
                if rng.chance(80) {
                    order.actor = kept.actor;
                }
            } else if let Some(kept) = rng.pick(earlier) {
                claim.key = kept.claim.key.clone();
                order.actor = kept.actor;
            }
        }
        order.claim = Some(claim);
        order
    }

    /// A name to act on: mostly of a key that verifies, sometimes of a dead or an unknown one.
    fn some_kid(&self, rng: &mut Rng) -> Kid {
        let book = &self.oracle.stored;
        let sort = rng.below(100);
        let of = |key: &&Key| match sort {
            0..30 => key.stage == Stage::Deprecated,
            30..50 => key.stage == Stage::Active,
            50..62 => key.stage == Stage::Pending,
            62..75 => key.stage == Stage::Purged,
            75..90 => key.stage == Stage::Retired,
            90..96 => key.stage == Stage::Gone,
            _ => false,
        };
        let keys: Vec<&Key> = book.keys.iter().filter(of).collect();
        let unknown = || "nobody".parse().expect("a kid");
        rng.pick(&keys).map_or_else(unknown, |key| key.kid.clone())
    }

    fn some_dead_kid(&self, rng: &mut Rng) -> Kid {
        let keys = &self.oracle.stored.keys;
        let undoable = rng.chance(70);
        let dead = |key: &&Key| key.stage == Stage::Purged && key.undo == undoable;
        let dead: Vec<&Key> = keys.iter().filter(dead).collect();
        match rng.pick(&dead) {
            Some(key) if rng.chance(85) => key.kid.clone(),
            _ => self.some_kid(rng),
        }
    }

    fn issue(&mut self, rng: &mut Rng) -> Checked {
        let at = rng.index(CLIENTS.len());
        let client = CLIENTS[at];
        let longest = self.oracle.timing.max_token_ttl;
        let ttl = [longest, longest / 3, longest / 10][at].max(Duration::from_secs(1));
        let ttl = Duration::from_secs(ttl.as_secs());
        let scope = *rng
            .pick(&["read write", "read", "admin read", "other"])
            .expect("some");
        let id = Uuid::from_u64_pair(rng.next(), rng.next());
        let from = self.clients.issues_from(client);
        equal("who may have tokens", &self.real.issues_from(client), &from)?;
        // The token endpoint waits for the second from which on tokens are accepted again.
        match from {
            None => return Ok(()),
            Some(Some(first)) if first > self.real.now() => self.set_clock(first),
            Some(_) => {}
        }
        let (kid, compact) = self.real.issue(client, scope, ttl, id);
        let active = self.oracle.in_force.only(Stage::Active);
        equal("the key that signed", &kid, &active.kid)?;
        let iat = self.real.now().as_seconds();
        let lives = ttl.min(active.max_ttl).as_secs();
        let token = Token {
            compact,
            kid,
            alg: active.alg,
            typ: "at+jwt".to_owned(),
            minted_header: true,
            signed_by: Some(active.half.clone()),
            honest: true,
            iss: ISSUER.to_owned(),
            aud: "api".to_owned(),
            client: client.to_owned(),
            modern: true,
            scope,
            iat,
            exp: iat + i64::try_from(lives).expect("short"),
            nbf: None,
        };
        self.note(|| format!("issue {} {client} {iat}+{lives}", token.kid));
        self.add(token, rng);
        Ok(())
    }

    /// A token that no endpoint would hand out: by a thief who has every private half that there
    /// ever was, by somebody who has none, or one of the former system of an imported key.
    fn forge(&mut self, rng: &mut Rng) {
        let book = Rc::clone(&self.oracle.in_force);
        let sort = rng.below(100);
        let of = |key: &&Key| match sort {
            0..20 => key.stage == Stage::Deprecated,
            20..35 => key.verifies(),
            35..45 => key.imported.is_some() && key.stage != Stage::Gone,
            45..75 => key.stage == Stage::Purged,
            75..88 => key.stage == Stage::Retired,
            88..94 => key.stage == Stage::Gone,
            _ => false,
        };
        let keys: Vec<&Key> = book.keys.iter().filter(of).collect();
        let key = rng.pick(&keys).copied();
        let (private, kid) = match key {
            Some(key) => (self.real.chest.of(&key.half), key.kid.clone()),
            None => {
                let private = self.real.chest.get(rng.index(self.real.chest.len()));
                let kid = private.half.clone();
                (private, kid)
            }
        };
        let former = key.and_then(|key| key.imported.as_ref());
        let legacy = rng.chance(if former.is_some() { 60 } else { 4 });
        let max_ttl = key.map_or(self.longest, |key| key.max_ttl).as_secs();
        let max_ttl = i64::try_from(max_ttl).expect("short");
        let small = |rng: &mut Rng, n: u64| i64::try_from(rng.below(n)).expect("small");
        let now = self.real.now().as_seconds();
        let timing = &self.oracle.timing;
        let slack = timing.sign_drain + timing.clock_offset_max;
        let end = |at: Option<Timestamp>| at.map(|at| at.plus(slack).as_seconds());
        let iat = match rng.below(100) {
            0..35 => now,
            35..55 => now - small(rng, 1 + max_ttl.unsigned_abs()),
            55..60 => now + small(rng, 3) + i64::try_from(timing.leeway.as_secs()).expect("short"),
            60..80 => end(key.and_then(|key| key.died_at)).unwrap_or(now) + small(rng, 3) - 1,
            _ => end(key.and_then(|key| key.deprecated_at)).unwrap_or(now) + small(rng, 3) - 1,
        };
        let lives = match rng.below(100) {
            0..50 => max_ttl,
            50..60 => 1 + small(rng, 10),
            60..66 => max_ttl + 1,
            66..69 => 0,
            _ => 1 + small(rng, 1 + max_ttl.unsigned_abs()),
        };
        let client = *rng.pick(&CLIENTS).expect("some");
        let mut token = Token {
            compact: String::new(),
            alg: private.alg,
            typ: "at+jwt".to_owned(),
            minted_header: true,
            signed_by: Some(private.half.clone()),
            honest: false,
            iss: if legacy { OLD_ISSUER } else { ISSUER }.to_owned(),
            aud: if legacy { OLD_AUDIENCE } else { "api" }.to_owned(),
            client: client.to_owned(),
            modern: !legacy || rng.chance(30),
            scope: rng.pick(&["read write", "admin", "other"]).expect("some"),
            iat,
            exp: iat + lives,
            nbf: None,
            kid,
        };
        if legacy && rng.chance(60) {
            token.typ = "JWT".to_owned();
        }
        let mut flaw = rng.below(100);
        if flaw < 6 {
            token.iss = (*rng.pick(&["https://evil.test", OLD_ISSUER]).expect("some")).to_owned();
        } else if flaw < 14 {
            token.aud = (*rng
                .pick(&["billing", "nowhere", OLD_AUDIENCE])
                .expect("some"))
            .to_owned();
        } else if flaw < 18 {
            token.nbf = Some(now + 1 + small(rng, 120));
        } else if flaw < 22 {
            let typ = ["JWT", "application/at+jwt", "at+JWT", "at+jwt;x"];
            token.typ = (*rng.pick(&typ).expect("some")).to_owned();
        }
        flaw = rng.below(100);
        let swapped = flaw < 5;
        token.minted_header = !swapped && token.typ == "at+jwt";
        let payload = payload(&token, rng);
        let header = |alg: Algorithm| {
            let (kid, typ) = (&token.kid, &token.typ);
            if swapped {
                format!(r#"{{"typ":"{typ}","kid":"{kid}","alg":"{alg}"}}"#)
            } else {
                format!(r#"{{"alg":"{alg}","kid":"{kid}","typ":"{typ}"}}"#)
            }
        };
        let mint = |private: &real::Private| {
            if token.minted_header {
                private.mint(&token.kid, &payload)
            } else {
                private.sign(&header(private.alg), &payload)
            }
        };
        let compact = match flaw {
            5..12 => {
                // Somebody else's key under this name.
                let other = self.real.chest.get(rng.index(self.real.chest.len()));
                if other.alg == private.alg {
                    let compact = mint(&other);
                    token.signed_by = Some(other.half);
                    compact
                } else {
                    mint(&private)
                }
            }
            12..18 => {
                let good = mint(&private);
                let bad = private.sign("{}", &payload.replacen('{', "{ ", 1));
                let part = |token: &str, at: usize| {
                    token.split('.').nth(at).expect("three parts").to_owned()
                };
                token.signed_by = None;
                format!("{}.{}.{}", part(&good, 0), part(&bad, 1), part(&good, 2))
            }
            18..22 => {
                let alg = match private.alg {
                    Algorithm::EdDsa => Algorithm::Es256,
                    _ => Algorithm::EdDsa,
                };
                let compact = private.sign(&header(alg), &payload);
                token.alg = alg;
                compact
            }
            _ => mint(&private),
        };
        token.compact = compact;
        self.note(|| format!("forge {token:?}"));
        self.add(token, rng);
    }

    /// Keeps the pool small: what nothing can become of any more goes first, then one of two tokens
    /// under one name; or any.
    fn add(&mut self, token: Token, rng: &mut Rng) {
        if self.tokens.len() == POOL {
            let timing = &self.oracle.timing;
            let spent = |token: &Token| {
                self.oracle.in_force.named(&token.kid).is_none()
                    || truth::is_expired(
                        token,
                        timing,
                        self.latest.minus(timing.idempotency_window),
                    )
            };
            let doubled = |token: &Token| {
                let same = |other: &&Token| other.kid == token.kid;
                self.tokens.iter().filter(same).count() > 1
            };
            let all = |is: &dyn Fn(&Token) -> bool| -> Vec<usize> {
                (0..POOL).filter(|at| is(&self.tokens[*at])).collect()
            };
            let (spent, doubled) = (all(&spent), all(&doubled));
            let first = rng.pick(&spent).or_else(|| rng.pick(&doubled)).copied();
            let at = first.filter(|_| rng.chance(80));
            self.tokens
                .swap_remove(at.unwrap_or_else(|| rng.index(POOL)));
        }
        self.tokens.push(token);
    }

    /// Verifies one token on some route.
    fn look(&mut self, at: usize, rng: &mut Rng) -> Checked {
        let token = &self.tokens[at];
        let route = rng.pick(&self.routes).expect("some");
        let now = self.real.now();
        let (book, timing) = (&self.oracle.in_force, &self.oracle.timing);
        let expected = verdict(token, book, &self.clients, timing, route, now);
        let stay = self.open.len() < OPEN && rng.chance(15);
        let (got, open) = self.real.verify(&token.compact, route, stay);
        let name = match &got {
            Verdict::Accepted { state, .. } => format!("token: accepted by {state}"),
            Verdict::Refused { why, .. } => format!("token: {}", why.as_str()),
        };
        *self.seen.entry(name).or_default() += 1;
        if got != expected || !self.is_fair(token, &expected, now) {
            let key = book.named(&token.kid);
            return Err(format!(
                "a token at {now}: got {got:?}, expected {expected:?}\n  token {token:?}\n  key {key:?}\n  route {route:?}"
            ));
        }
        let same = |key: &Key| key.kid == token.kid && key.stage != Stage::Gone;
        let born = book.keys.iter().position(same);
        self.open.extend(open.zip(born));
        Ok(())
    }

    /// Invariant 3, said without states: what the endpoint handed out is good until it expires,
    /// unless its key was purged or its client revoked. Only in the dark, after a commit of unknown
    /// outcome, may a key sign that has been replaced; for longer than the design allows only
    /// while the store gives no answer. A gateway's clock never goes back; here it does, and then what
    /// had expired stays so.
    fn is_fair(&self, token: &Token, verdict: &Verdict, now: Timestamp) -> bool {
        let timing = &self.oracle.timing;
        let born = Timestamp::from_seconds(token.iat);
        let dark = timing.sign_drain + timing.clock_offset_max;
        let keys = &self.oracle.in_force.keys;
        let key = keys.iter().rev().find(|key| key.kid == token.kid);
        let is_excused = key.is_none_or(|key| {
            key.stage == Stage::Purged
                || key.purge.is_some()
                || key.deprecated_at.is_some_and(|at| born > at.plus(dark))
        });
        let may_fail = !token.honest
            || is_excused
            || truth::is_expired(token, timing, self.latest)
            || born > now.plus(timing.leeway);
        may_fail
            || match verdict {
                Verdict::Accepted { .. } => true,
                Verdict::Refused { why, .. } => {
                    matches!(why, Rejection::InsufficientScope | Rejection::ClientRevoked)
                }
            }
    }

    /// Requests that a purged key admitted are to be cut, and no others.
    fn compare_open(&mut self) -> Checked {
        let keys = &self.oracle.in_force.keys;
        for (open, born) in &self.open {
            let purged = self.oracle.ended.contains(born);
            equal("a request is to be cut", &open.key_was_purged(), &purged)
                .map_err(|error| format!("{error}; admitted by {:?}", keys[*born]))?;
        }
        self.open.retain(|(open, _)| !open.key_was_purged());
        self.oracle.ended.clear();
        Ok(())
    }

    fn compare_keys(&mut self) -> Checked {
        let (stored, published) = (self.real.stored(), self.real.published());
        let revisions = [stored.revision, published.set.revision];
        let expected = [self.oracle.stored.revision, self.oracle.in_force.revision];
        equal("revisions, stored and in force", &revisions, &expected)?;
        if revisions[0] != self.compared[0] {
            compare(&stored, &self.oracle.stored)?;
        }
        if revisions[1] != self.compared[1] {
            let book = &self.oracle.in_force;
            compare(&published.set, book)?;
            let active = book.only(Stage::Active);
            equal("the key that signs", published.signer.kid(), &active.kid)?;
            let mut kids = real::jwks_kids(&published.jwks);
            let text = |key: &Key| key.kid.as_str().to_owned();
            let first = [text(active), text(book.only(Stage::Pending))];
            equal("first keys of the JWKS", &kids[..2], &first[..])?;
            kids.sort_unstable();
            let mut all: Vec<String> = book.verifying().map(text).collect();
            all.sort_unstable();
            equal("keys of the JWKS", &kids, &all)?;
        }
        self.compared = revisions;
        Ok(())
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(what());
        }
    }
}

fn payload(token: &Token, rng: &mut Rng) -> String {
    let mut claims = json!({
        "iss": token.iss,
        "sub": token.client,
        "aud": token.aud,
        "exp": token.exp,
        "iat": token.iat,
        "scope": token.scope,
    });
    let members = claims.as_object_mut().expect("an object");
    if token.modern {
        members.insert("client_id".to_owned(), json!(token.client));
        members.insert("jti".to_owned(), json!("1"));
    } else if rng.chance(50) {
        members.insert("azp".to_owned(), json!(token.client));
        members.insert("sub".to_owned(), json!("a-person"));
    }
    if let Some(nbf) = token.nbf {
        members.insert("nbf".to_owned(), json!(nbf));
    }
    claims.to_string()
}

/// A key as both sides can show it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shown {
    kid: Kid,
    alg: &'static str,
    stage: &'static str,
    max_ttl: Duration,
    is_imported: bool,
    published: Option<(Timestamp, u64)>,
    activated_at: Option<Timestamp>,
    deprecated_at: Option<Timestamp>,
    verify_until: Option<Timestamp>,
    death: Option<(Timestamp, u64, Timestamp)>,
    purge: Option<(Option<Uuid>, bool)>,
}

fn compare(set: &KeySet, book: &Book) -> Checked {
    let verifying = set.verifying().map(|(state, key)| {
        let deprecated = set.deprecated.iter().find(|it| it.public.kid == key.kid);
        let is_active = key.kid == set.active.public.kid;
        Shown {
            kid: key.kid.clone(),
            alg: key.alg.as_str(),
            stage: state.as_str(),
            max_ttl: key.max_ttl,
            is_imported: key.legacy.is_some(),
            published: Some((key.published_at, key.published_revision)),
            activated_at: deprecated
                .map(|it| it.activated_at)
                .or_else(|| is_active.then_some(set.active.activated_at)),
            deprecated_at: deprecated.map(|it| it.deprecated_at),
            verify_until: deprecated.map(|it| it.verify_until),
            death: None,
            purge: None,
        }
    });
    let tombstones = set.tombstones.iter().map(|dead| {
        let is_purged = dead.end == portcullis::keys::End::Purged;
        Shown {
            kid: dead.kid.clone(),
            alg: dead.alg.as_str(),
            stage: if is_purged { "purged" } else { "retired" },
            max_ttl: dead.max_ttl,
            is_imported: dead.legacy.is_some(),
            published: None,
            activated_at: dead.activated_at,
            deprecated_at: dead.deprecated_at.filter(|_| is_purged),
            verify_until: Some(dead.verify_until),
            death: Some((dead.died_at, dead.died_revision, dead.tombstone_until)),
            purge: is_purged.then_some((dead.purge_id, dead.mistake_undo)),
        }
    });
    let mut got: Vec<Shown> = verifying.chain(tombstones).collect();
    got.sort_unstable();
    let alive = book.keys.iter().filter(|key| key.stage != Stage::Gone);
    let mut expected: Vec<Shown> = alive.map(shown).collect();
    expected.sort_unstable();
    if got.len() == expected.len() {
        for (got, expected) in got.iter().zip(&expected) {
            equal("a key", got, expected)?;
        }
    }
    equal("keys", &got, &expected)?;
    let last = set.last_activation.as_ref().map(real::done);
    equal("last activation", &last, &book.last_activation)?;
    let last = set.last_purge.as_ref().map(real::done);
    equal("last purge", &last, &book.last_purge)?;
    equal("restore_epoch", &set.restore_epoch, &book.restore_epoch)?;
    equal("high_water", &set.high_water_time, &book.high_water)?;
    equal("audit record", &real::entry(&set.last_event), &book.entry)?;
    let demand = set.kek_demand.as_ref().map(|it| (it.since, it.purge_id));
    equal("demand for a key-encryption key", &demand, &book.demand)?;
    let mut got: Vec<_> = set
        .idempotency
        .iter()
        .map(|it| (it.claim.body_digest.clone(), it.activation.id))
        .collect();
    let mut expected: Vec<_> = book
        .results
        .iter()
        .map(|it| (it.claim.body.clone(), it.done.id))
        .collect();
    got.sort_unstable();
    expected.sort_unstable();
    equal("stored results", &got, &expected)
}

fn shown(key: &Key) -> Shown {
    let verifies = key.verifies();
    Shown {
        kid: key.kid.clone(),
        alg: key.alg.as_str(),
        stage: match key.stage {
            Stage::Pending => "pending",
            Stage::Active => "active",
            Stage::Deprecated => "deprecated",
            Stage::Retired => "retired",
            Stage::Purged => "purged",
            Stage::Gone => "gone",
        },
        max_ttl: key.max_ttl,
        is_imported: key.imported.is_some(),
        published: verifies.then_some((key.published_at, key.published_revision)),
        activated_at: key.activated_at,
        deprecated_at: key.deprecated_at.filter(|_| key.stage != Stage::Retired),
        verify_until: key.verify_until,
        death: key
            .died_at
            .map(|at| (at, key.died_revision, key.forgotten_at.expect("it is dead"))),
        purge: (key.stage == Stage::Purged).then_some((key.purge, key.undo)),
    }
}

fn equal<T: PartialEq + std::fmt::Debug + ?Sized>(what: &str, got: &T, expected: &T) -> Checked {
    if got == expected {
        Ok(())
    } else {
        Err(format!("{what}: got {got:#?}, expected {expected:#?}"))
    }
}

/// The fast timings of `conf/test-fast.yaml` with a longer token life, the defaults, and a single
/// gateway with short ones.
fn timing(which: u64) -> Timing {
    let ms = Duration::from_millis;
    let fast = Timing {
        max_token_ttl: ms(50_000),
        leeway: ms(0),
        jwks_max_age: ms(0),
        prepublish: ms(500),
        idempotency_window: ms(800),
        rotation_interval: ms(4_000),
        replica_lease: ms(200),
        heartbeat: ms(50),
        barrier_timeout: ms(300),
        isolation_grace: IsolationGrace::For(ms(1_000)),
        sign_drain: ms(1_500),
        clock_offset_max: ms(1_000),
        replicated: true,
    };
    let timing = match which {
        0 => fast,
        1 => Timing {
            max_token_ttl: ms(20_000),
            leeway: ms(2_000),
            jwks_max_age: ms(200),
            prepublish: ms(900),
            idempotency_window: ms(1_200),
            sign_drain: ms(0),
            replicated: false,
            ..fast
        },
        _ => Timing::default(),
    };
    timing.check().expect("sound timings");
    timing
}
