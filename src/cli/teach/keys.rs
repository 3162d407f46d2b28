//! Lessons of `portcullis keys`.

use super::{ASKING, Lesson};

pub(super) const LESSONS: &[Lesson] = &[
    Lesson {
        path: "keys",
        notes: "\
A key is pending (published, stands ready), active (signs), deprecated (verifies what it signed),
then retired or purged (verifies nothing).",
        examples: &[
            ("what is in force", "portcullis keys list"),
            ("replace the active key; nothing breaks", "portcullis keys rotate"),
        ],
        exits: ASKING,
    },
    Lesson {
        path: "keys list",
        notes: "",
        examples: &[
            ("every key with its state and dates", "portcullis keys list"),
            ("the active key's name, for a script", "portcullis keys list --output json | jq -r '.keys[] | select(.state == \"active\") | .kid'"),
            ("look on while something changes", "portcullis keys list --watch --interval 5"),
        ],
        exits: ASKING,
    },
    Lesson {
        path: "keys preview",
        notes: "\
With --shadow the answer comes when the time is over; what was counted until then is said on standard
error.",
        examples: &[
            ("what would break now", "portcullis keys preview"),
            ("the same for one key", "portcullis keys preview --kid \"$KID\""),
            ("count on live traffic for three seconds", "portcullis keys preview --shadow 3s"),
        ],
        exits: ASKING,
    },
    Lesson {
        path: "keys purges",
        notes: "With an ID, --watch ends when every client that the purge broke is back.",
        examples: &[
            ("all that are remembered", "portcullis keys purges"),
            ("one of them: its receipt and its clients", "portcullis keys purges \"$PURGE_ID\""),
            ("until everybody is back", "portcullis keys purges \"$PURGE_ID\" --watch"),
        ],
        exits: ASKING,
    },
    Lesson {
        path: "keys rotate",
        notes: "\
For a leaked key:
  portcullis keys rotate --purge
Every key that verifies now dies at once, and every token with it. The command shows the keys and asks
first; where nobody can be asked it refuses and exits with 2. In a script add --yes, and
--seen-revision or --idempotency-key so that a repeated call cannot kill clients that recovered.",
        examples: &[
            ("Rotate: nothing breaks, and a second one within the window changes nothing", "portcullis keys rotate --reason 'weekly'"),
            ("Rotate and purge, after a question", "portcullis keys rotate --purge --reason 'leaked key'"),
            (
                "the same in a script that may be repeated",
                "seen=$(portcullis keys list --output json | jq .revision)\nportcullis keys rotate --purge --yes --seen-revision \"$seen\"",
            ),
            ("end one key alone, and allow that it comes back", "portcullis keys rotate --purge --yes --kid \"$KID\" --mistake-undo"),
        ],
        exits: &[
            (0, "done, or nothing to do because it was done already"),
            (1, "refused by the gateway, not confirmed, or the gateway cannot be reached"),
            (2, "bad usage or configuration; a purge that could not ask and was not told --yes"),
            (3, "there is no admin token to ask with"),
        ],
    },
    Lesson {
        path: "keys import",
        notes: "\
Without --active only the public half leaves this machine; a PEM file with BEGIN PUBLIC KEY will do.
The key verifies until every token that the former system may have issued has expired.
With --active it signs from now on, and the active key so far becomes deprecated.",
        examples: &[
            (
                "verify the tokens of a former system until the last has expired",
                "portcullis keys import --pem old-key.pem --kid 2024-key --max-ttl 1h \\\n    --legacy-iss https://old.example --legacy-aud old-api --legacy-typ JWT",
            ),
            ("sign with it as well", "portcullis keys import --pem other-key.pem --max-ttl 1h --active"),
        ],
        exits: &[
            (0, "done"),
            (1, "refused by the gateway, or it cannot be reached"),
            (2, "bad usage or configuration, or the file holds no key that can be taken"),
            (3, "there is no admin token to ask with"),
        ],
    },
    Lesson {
        path: "keys compromised",
        notes: "",
        examples: &[("it was no mistake after all", "portcullis keys compromised \"$PURGED_KID\" --reason 'it did leak'")],
        exits: ASKING,
    },
    Lesson {
        path: "keys restore",
        notes: "The key verifies again what it signed, until its time is over; it never signs again.",
        examples: &[("undo the purge of one key", "portcullis keys restore \"$PURGED_KID\" --reason 'wrong key'")],
        exits: ASKING,
    },
    Lesson {
        path: "keys reseal",
        notes: "\
In your own file put the new key (32 random bytes in base64url) into the first line, leave the old ones
below, then run this without --new-kek. Afterwards only old lines of the audit log, and old backups,
need the older keys. See docs/store.md.",
        examples: &[
            ("a file that `portcullis init` made: put a new key in front", "portcullis keys reseal --new-kek"),
            ("your own file, after you put a new key in front", "portcullis keys reseal"),
        ],
        exits: &[
            (0, "done, or nothing to do"),
            (1, "refused, or the gateway cannot be reached"),
            (2, "bad usage or configuration"),
            (3, "the store cannot be used, or there is no admin token to ask with"),
            (5, "--offline while a gateway runs"),
        ],
    },
    Lesson {
        path: "keys confirm-clock",
        notes: "\
What happened:
  The wall clock moved forward by more than 300 seconds beyond the time that passed: it was set, or
  the machine was suspended. Tokens are judged by the new time at once. Automatic rotation and
  retirement wait, because a retired key cannot come back. `keys list` shows what waits.

What to do:
  The clock is right     portcullis keys confirm-clock; or do nothing: ten minutes without
                         another step count as confirmed
  The clock is wrong     set it back within the ten minutes; nothing was retired, and the gateway
                         returns to the right time. Rotate or purge before that only when you
                         must: the gateway never goes back behind a committed change.

`keys rotate` and `keys rotate --purge` work all the time.",
        examples: &[("the clock is right", "portcullis keys confirm-clock --yes")],
        exits: &[
            (0, "confirmed, or nothing to confirm"),
            (1, "refused, not confirmed, or the gateway cannot be reached"),
            (2, "bad usage or configuration; it could not ask and was not told --yes"),
            (3, "there is no admin token to ask with"),
        ],
    },
];
