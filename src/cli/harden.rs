//! What every command does first: it may come to hold private keys.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// No core dumps: they would hold private keys. It also keeps other processes of the same user
/// from reading this one's memory.
pub(super) fn no_core_dumps() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // Neither fails for lowering one's own rights; if one did, the other still holds.
    let _lowered = setrlimit(Resource::Core, none);
    let _set = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}
