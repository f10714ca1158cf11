//! Rules for id mappings.

use super::super::IdMapping;
use super::{Verdict, broken};

/// The kernel's limit of a map's entries.
const MAX: usize = 340;

/// Ranges are not empty, stay below 2^32 and do not overlap on either side.
pub(super) fn check(field: &str, mappings: &[IdMapping]) -> Verdict {
    if mappings.len() > MAX {
        return Err(broken(field, &mappings.len(), format!("the kernel takes {MAX} entries; merge some")));
    }
    for (i, mapping) in mappings.iter().enumerate() {
        let at = format!("{field}[{i}]");
        if mapping.size == 0 {
            return Err(broken(&format!("{at}.size"), &0, "must map at least one id; remove the entry"));
        }
        let fits = |first: u32| first.checked_add(mapping.size - 1).is_some();
        if !fits(mapping.container_id) || !fits(mapping.host_id) {
            return Err(broken(&at, mapping, "reaches beyond the last id, 4294967295; make size smaller"));
        }
        let clash = |other: &&IdMapping| {
            overlap(mapping.container_id, other.container_id, mapping.size, other.size)
                || overlap(mapping.host_id, other.host_id, mapping.size, other.size)
        };
        if let Some(j) = mappings[..i].iter().position(|other| clash(&other)) {
            return Err(broken(
                &at,
                mapping,
                format!("overlaps entry {j}; an id is mapped once, so split them"),
            ));
        }
    }
    Ok(())
}

fn overlap(a: u32, b: u32, a_size: u32, b_size: u32) -> bool {
    let (a, b) = (u64::from(a), u64::from(b));
    a < b + u64::from(b_size) && b < a + u64::from(a_size)
}
