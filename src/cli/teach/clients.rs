//! Lessons of `portcullis clients`.

use super::{ASKING, Lesson};

pub(super) const LESSONS: &[Lesson] = &[
    Lesson {
        path: "clients",
        notes: "\
For a client whose secret or tokens leaked: disable it, which ends the tokens it has, give it a new
secret, enable it again.",
        examples: &[
            ("who there is", "portcullis clients list"),
            (
                "one that leaked a token",
                "portcullis clients invalidate demo --reason 'token in a log'",
            ),
        ],
        exits: ASKING,
    },
    Lesson {
        path: "clients hash-secret",
        notes: "",
        examples: &[(
            "the hash of a secret, for the configuration",
            "printf %s \"$SECRET\" | portcullis clients hash-secret > secrets/app.hash",
        )],
        exits: &[
            (0, "done"),
            (1, "no randomness is to be had"),
            (2, "no secret, or one that is too long or too short"),
        ],
    },
    Lesson {
        path: "clients list",
        notes: "The role viewer sees numbers; names are for operators.",
        examples: &[
            ("everybody", "portcullis clients list"),
            (
                "who is shut out, for a script",
                "portcullis clients list --output json | jq -r '.clients[] | select(.state == \"disabled\") | .id'",
            ),
        ],
        exits: ASKING,
    },
    Lesson {
        path: "clients show",
        notes: "",
        examples: &[(
            "what was done to it, by whom and why",
            "portcullis clients show demo",
        )],
        exits: ASKING,
    },
    Lesson {
        path: "clients changes",
        notes: "",
        examples: &[
            ("who changed what", "portcullis clients changes"),
            (
                "who was shut out, for a script",
                "portcullis clients changes -n 1000 --output json | jq -c '.changes[] | select(.action == \"disable\") | {at, client, actor}'",
            ),
        ],
        exits: ASKING,
    },
    Lesson {
        path: "clients disable",
        notes: "\
For a client whose secret or tokens leaked:
  portcullis clients disable ID       nothing of it gets through any more, its tokens also later
  (give it a new secret)
  portcullis clients enable ID",
        examples: &[(
            "shut it out now",
            "portcullis clients disable demo --reason 'lost laptop'",
        )],
        exits: ASKING,
    },
    Lesson {
        path: "clients enable",
        notes: "",
        examples: &[(
            "let it in again",
            "portcullis clients enable demo --reason 'laptop found'",
        )],
        exits: ASKING,
    },
    Lesson {
        path: "clients invalidate",
        notes: "",
        examples: &[(
            "end the tokens it has",
            "portcullis clients invalidate demo --reason 'token in a log'",
        )],
        exits: ASKING,
    },
    Lesson {
        path: "clients add",
        notes: "",
        examples: &[
            (
                "a client whose tokens live for five minutes",
                "portcullis clients add billing --scope read --scope write --token-ttl-seconds 300",
            ),
            (
                "its secret alone, into a file",
                "(umask 077; portcullis clients add reports --scope read --output json | jq -r .secret > reports.secret)",
            ),
        ],
        exits: ASKING,
    },
    Lesson {
        path: "clients rotate-secret",
        notes: "",
        examples: &[
            (
                "a second secret, before the first is ended",
                "portcullis clients rotate-secret billing --reason yearly",
            ),
            (
                "when the client uses the new one",
                "portcullis clients drop-old-secret billing",
            ),
        ],
        exits: ASKING,
    },
    Lesson {
        path: "clients drop-old-secret",
        notes: "",
        examples: &[(
            "when the client uses the new one",
            "portcullis clients drop-old-secret billing",
        )],
        exits: ASKING,
    },
    Lesson {
        path: "clients remove",
        notes: "A client of the configuration file is removed there.",
        examples: &[(
            "it is not needed any more",
            "portcullis clients remove billing --reason 'replaced'",
        )],
        exits: ASKING,
    },
];
