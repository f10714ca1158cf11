//! What a `sextant mesh` that was killed has left in pods, where nobody is to serve them any more.

use ledger::OwnerId;

use super::guarding;
use crate::instance::Instance;

/// Takes it away, and with it what keeps pods closed to others until the next one comes: none comes. What could not be. What one has that lives is left to it.
pub(crate) fn take_away(instance: &Instance) -> Vec<String> {
    let owners = match instance.ledger.owners() {
        Ok(owners) => owners,
        Err(error) => return vec![error.to_string()],
    };
    let is_meshs = |id: &OwnerId| *id == guarding() || id.as_str() == super::PLAIN;
    let mut left = Vec::new();
    for id in owners.iter().filter(|id| is_meshs(id)) {
        match instance.ledger.try_owner(id) {
            Ok(Some(owner)) => left.extend(owner.undo_all().iter().map(ToString::to_string)),
            Ok(None) => {}
            Err(error) => left.push(error.to_string()),
        }
    }
    left
}
