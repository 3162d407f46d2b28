//! Lessons of everything but keys and clients.

use super::Lesson;

pub(super) const LESSONS: &[Lesson] = &[
    Lesson {
        path: "",
        notes: "\
Tables are for people, --output json is for scripts. Colours are for terminals alone; NO_COLOR switches
them off.",
        examples: &[
            ("keys, an admin token and client secrets, once", "portcullis init"),
            ("run the gateway", "portcullis serve"),
            ("how it is", "portcullis status"),
        ],
        exits: &[
            (0, "done"),
            (1, "failed; the message says why"),
            (2, "bad configuration or usage"),
            (3, "the store or a secret is not initialised or cannot be used"),
            (4, "an address cannot be listened on"),
            (5, "the store is locked by another process"),
        ],
    },
    Lesson {
        path: "init",
        notes: "",
        examples: &[("make what the configuration names and is missing", "portcullis init --config my.yaml")],
        exits: &[
            (0, "done, or nothing was missing"),
            (1, "something cannot be written"),
            (2, "bad configuration or usage"),
            (3, "a key set is there and its key-encryption key is not"),
            (5, "the store is locked by another process"),
        ],
    },
    Lesson {
        path: "serve",
        notes: "\
SIGTERM and SIGINT let what is in flight finish, for at most server.shutdown_grace. The log goes to
standard output.",
        examples: &[("run in the foreground, the log into a file", "portcullis serve --config my.yaml >> gateway.log")],
        exits: &[
            (0, "stopped by a signal, everything in flight finished"),
            (1, "failed; the message says why"),
            (2, "bad configuration or usage"),
            (3, "the store or a secret is not initialised or cannot be used: `portcullis init`"),
            (4, "an address cannot be listened on"),
            (5, "the store is locked by another process"),
        ],
    },
    Lesson {
        path: "demo",
        notes: "",
        examples: &[("a gateway to play with; Ctrl-C ends it", "portcullis demo")],
        exits: &[
            (0, "ended by a signal"),
            (1, "failed; the message says why"),
            (2, "bad configuration or usage, or the configuration is none for a demo"),
            (3, "what is there cannot be used"),
            (4, "an address cannot be listened on"),
            (5, "the store is locked by another process"),
        ],
    },
    Lesson {
        path: "check",
        notes: "",
        examples: &[("before a restart", "portcullis check --config my.yaml")],
        exits: &[(0, "it would run"), (2, "it would not; file, line, value and rule are named")],
    },
    Lesson {
        path: "store",
        notes: "",
        examples: &[("what is left of a damaged key set", "portcullis store recover")],
        exits: RECOVER,
    },
    Lesson {
        path: "store recover",
        notes: "\
Every key of the previous generation dies, as if purged, and fresh ones take over: nobody can say
what happened to them since. Clients ask for new tokens. --keep-keys spares them; keys that the audit
log says ended later die all the same.
Stop the gateway first; run it as the user that runs the gateway. See docs/store.md.",
        examples: &[
            ("look, change nothing", "portcullis store recover"),
            ("do it", "portcullis store recover --accept-rollback --reason 'disk failure of 3 May'"),
        ],
        exits: RECOVER,
    },
    Lesson {
        path: "audit",
        notes: "Both read the audit log where it lies: run them on the gateway's machine, as its user.",
        examples: &[
            ("what was done last", "portcullis audit tail"),
            ("was the log changed?", "portcullis audit verify"),
        ],
        exits: AUDIT,
    },
    Lesson {
        path: "audit tail",
        notes: "",
        examples: &[
            ("the last five", "portcullis audit tail -n 5"),
            ("who purged, ever", "portcullis audit tail -n 1000000 --output json | jq -c 'select(.event == \"rotate_and_purge\") | {at, actor, reason}'"),
            ("and everything that comes; Ctrl-C ends it", "portcullis audit tail --follow"),
        ],
        exits: AUDIT,
    },
    Lesson {
        path: "audit verify",
        notes: "",
        examples: &[
            ("exits with 1 at the first bad line", "portcullis audit verify"),
            ("with the key of older lines", "portcullis audit verify --kek-file secrets/old-kek"),
        ],
        exits: AUDIT,
    },
    Lesson {
        path: "token",
        notes: "",
        examples: &[(
            "get a token and see what the gateway does with it",
            "portcullis token issue | portcullis token explain --path /hello",
        )],
        exits: &[
            (0, "done"),
            (1, "refused; of `explain`, also that the request would be refused"),
            (2, "bad usage or configuration"),
            (3, "a secret, an admin token or the store is missing or cannot be used"),
        ],
    },
    Lesson {
        path: "token issue",
        notes: "\
The token is printed alone, so that it can go into a variable or a pipe. A secret is refused as an
argument on purpose: other users of the machine can read it there.",
        examples: &[
            ("for the first client of the configuration, with the secret that `init` made", "TOKEN=$(portcullis token issue)"),
            ("fewer rights, and everything that the endpoint answered", "portcullis token issue --scope read --output json"),
            ("a client of another machine", "portcullis token issue --client-id billing --secret-file billing.secret"),
            ("the secret of a password manager", "printf %s \"$SECRET\" | portcullis token issue --client-id billing --secret-file -"),
            ("the file that a container is given", "portcullis token issue --env-file billing.env --audience api"),
        ],
        exits: &[
            (0, "the token is on standard output"),
            (1, "the token endpoint refused or cannot be reached, or the token is not for --audience"),
            (2, "bad usage or configuration; no secret was given"),
        ],
    },
    Lesson {
        path: "token inspect",
        notes: "",
        examples: &[
            ("a token from a client's log", "portcullis token inspect token.txt"),
            ("when does it expire?", "portcullis token issue | portcullis token inspect --output json | jq -r .expires_at"),
        ],
        exits: &[(0, "decoded, which says nothing about its worth"), (1, "it is no JWT"), (2, "bad usage, or no token to read")],
    },
    Lesson {
        path: "token explain",
        notes: "\
It says more than clients are told, and it counts nowhere: not in metrics, not in limits. Whoever asks
is in the log, the token is not. It needs the role operator; --offline needs the right to read the
store and the key-encryption key instead.",
        examples: &[
            ("why does this client get 401?", "portcullis token explain token.txt --path /hello"),
            ("would it be allowed to write?", "portcullis token explain token.txt -X POST --host 127.0.0.1 --path /orders?dry=1"),
            ("for a script", "portcullis token explain token.txt --output json | jq -r '.verdict, .reason'"),
            ("no gateway runs", "portcullis token explain token.txt --offline"),
            ("which route takes a request, and does it need a token?", "portcullis token explain --no-token --path /healthz"),
        ],
        exits: &[
            (0, "the request would be forwarded, or the gateway itself answers it"),
            (1, "it would be refused, which standard output explains; or nobody could be asked, which standard error says"),
            (2, "bad usage or configuration"),
            (3, "there is no admin token to ask with, or no store to judge by"),
        ],
    },
    Lesson {
        path: "status",
        notes: "",
        examples: &[
            ("everything at a glance", "portcullis status"),
            ("for a monitor", "portcullis status --output json > status.json"),
            ("look on", "portcullis status --watch"),
        ],
        exits: &[
            (0, "everything is ok"),
            (1, "a component has a warning or an error, or the gateway cannot be reached"),
            (2, "bad usage or configuration"),
            (3, "there is no admin token to ask with"),
        ],
    },
    Lesson {
        path: "logs",
        notes: "\
A gateway keeps its last lines in memory, within bounds; older ones are in its log alone. Without a Log
ID the newest line comes first.",
        examples: &[
            ("what is behind the Log ID of an error", "portcullis logs \"$LOG_ID\""),
            ("the same, and look into the log file when the gateway does not know it", "portcullis logs \"$LOG_ID\" --file gateway.log"),
            ("the newest warnings and errors, the newest first", "portcullis logs -n 50"),
        ],
        exits: &[
            (0, "found"),
            (1, "not found, refused, or the gateway cannot be reached"),
            (2, "bad usage or configuration; it is no Log ID"),
            (3, "there is no admin token to ask with"),
        ],
    },
    Lesson {
        path: "rehearse",
        notes: "\
When: after an upgrade (with --binary before it), before trusting a new disk (with --dir on that
disk), and whenever somebody asks whether a purge really works here.

It takes 30 to 60 seconds, longer with RS256, and about one core. The real configuration is read for
its algorithm and its kind of store, and nothing else of it is touched: keys, secrets, data and ports
of the rehearsal are made for it in a scratch directory, which is removed at the end, unless --keep is
given or something is broken. Do not set the clock while it runs.",
        examples: &[
            ("what is installed, where it is installed", "portcullis rehearse"),
            ("the next version, before the upgrade", "portcullis rehearse --binary ./portcullis-new"),
            ("a disk that is to hold the keys", "portcullis rehearse --dir /mnt/new --kills 200"),
        ],
        exits: &[
            (0, "every invariant that could be exercised held"),
            (1, "one is broken; the table says which, and what was seen"),
            (2, "bad configuration or usage"),
        ],
    },
    Lesson {
        path: "completions",
        notes: "",
        examples: &[
            ("for this shell", "source <(portcullis completions bash)"),
            ("for every bash of yours", "mkdir -p ~/.local/share/bash-completion/completions\nportcullis completions bash > ~/.local/share/bash-completion/completions/portcullis"),
        ],
        exits: &[(0, "done"), (2, "no such shell")],
    },
    Lesson {
        path: "openapi",
        notes: "",
        examples: &[("for a generator of client code", "portcullis openapi > openapi.json")],
        exits: &[(0, "printed"), (2, "bad usage")],
    },
    Lesson {
        path: "man",
        notes: "",
        examples: &[
            ("read it", "portcullis man | man -l -"),
            ("a page for every command, where man finds them", "mkdir -p ~/.local/share/man/man1\nportcullis man --dir ~/.local/share/man/man1"),
            ("the reference in Markdown", "portcullis man --markdown > cli.md"),
        ],
        exits: &[(0, "done"), (1, "a page cannot be written"), (2, "bad usage")],
    },
    Lesson {
        path: "echo",
        notes: "",
        examples: &[("where the demo's configuration expects it", "portcullis echo")],
        exits: &[(0, "ended by a signal"), (1, "failed"), (4, "the address cannot be listened on")],
    },
];

const RECOVER: &[super::Exit] = &[
    (0, "recovered"),
    (
        1,
        "nothing to recover, or not confirmed with --accept-rollback",
    ),
    (2, "bad configuration or usage"),
    (3, "nothing to recover from"),
    (5, "a gateway runs"),
];

const AUDIT: &[super::Exit] = &[
    (0, "done; of `verify`: the log is intact"),
    (
        1,
        "the log cannot be read, or a line is bad; of `verify`, the line is named",
    ),
    (2, "bad configuration or usage"),
    (3, "there is no audit log, or its key cannot be read"),
];
