//! What a refused apply says.

use super::Operation;
use super::entries::Identity;
use super::update::Conflict;
use crate::contract::field::quoted;
use crate::contract::{Cause, Details, Reason, Status};
use std::collections::BTreeMap;

/// 409 with a cause for each conflict.
pub(super) fn status(mut conflicts: Vec<Conflict>) -> Status {
    // Kubernetes tells managers in no order; here it is that of the message.
    conflicts.sort_by_key(|conflict| conflict.manager.sorts_as());
    let causes = conflicts.iter().map(|conflict| Cause {
        reason: "FieldManagerConflict".to_owned(),
        message: format!("conflict with {}", shown(&conflict.manager)),
        field: path(conflict),
    });
    let details = Details { causes: causes.collect(), ..Details::default() };
    Status::new(409, Reason::Conflict, message(&conflicts)).with(details)
}

fn message(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        return format!(
            "Apply failed with 1 conflict: conflict with {}: {}",
            shown(&only.manager),
            path(only)
        );
    }
    let mut by_manager: BTreeMap<String, Vec<&Conflict>> = BTreeMap::new();
    for conflict in conflicts {
        by_manager.entry(conflict.manager.sorts_as()).or_default().push(conflict);
    }
    let mut lines = Vec::with_capacity(conflicts.len() + by_manager.len());
    for conflicts in by_manager.values() {
        lines.push(format!("conflicts with {}:", shown(&conflicts[0].manager)));
        lines.extend(conflicts.iter().map(|conflict| format!("- {}", path(conflict))));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

fn path(conflict: &Conflict) -> String {
    conflict.path.iter().map(ToString::to_string).collect()
}

fn shown(manager: &Identity) -> String {
    let mut text = quoted(&manager.name);
    if !manager.subresource.is_empty() {
        text.push_str(&format!(" with subresource {}", quoted(&manager.subresource)));
    }
    if manager.operation == Operation::Update {
        text.push_str(&format!(" using {}", manager.api_version));
    }
    text
}
