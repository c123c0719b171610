//! Which deliberate bug is switched on. Only ever part of the copy of the tree that `tests/simulation/bugs/run` makes.

use std::sync::OnceLock;

/// Whether `SHARDCAST_BUG` names this bug.
pub(crate) fn on(name: &str) -> bool {
    static BUG: OnceLock<Option<String>> = OnceLock::new();
    BUG.get_or_init(|| std::env::var("SHARDCAST_BUG").ok()).as_deref() == Some(name)
}
