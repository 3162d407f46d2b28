//! What every command does first: it may come to hold private keys. And what `serve` does about open
//! files.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

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

/// Raises the limit of open files to what the system allows this process; says what it is now.
pub(super) fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Where it cannot be raised, what there is has to do.
    let _raised = setrlimit(Resource::Nofile, raised);
    // No limit at all is `None`.
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
