//! To which class a volume is modified, by what its claim says.

/// What there is to do for a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan<'a> {
    /// Nothing.
    Nothing,
    /// The claim asks for no class any more, and the driver is not at it: that it is being modified is not true any more.
    Forget,
    /// The driver may still be at this class: it is brought to its end before another is begun.
    Continue(&'a str),
    /// This class is begun.
    Begin(&'a str),
}

/// What there is to do for a claim that asks for the class `wanted` and has `current` (nothing: empty), where `modifyVolumeStatus` has
/// this status and target. `is_over` says that the driver's last answer was that it has ended in failure.
pub(super) fn plan<'a>(
    wanted: &'a str,
    current: &str,
    status: Option<(&str, &'a str)>,
    is_over: bool,
) -> Plan<'a> {
    match status {
        None if wanted == current => Plan::Nothing,
        Some(("InProgress", target)) if !is_over || wanted.is_empty() => Plan::Continue(target),
        _ if wanted.is_empty() => Plan::Forget,
        _ => Plan::Begin(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_begun_once_the_one_before_has_ended() {
        assert_eq!(plan("", "", None, false), Plan::Nothing);
        assert_eq!(plan("gold", "gold", None, false), Plan::Nothing);
        assert_eq!(plan("gold", "", None, false), Plan::Begin("gold"));
        assert_eq!(plan("gold", "", Some(("Pending", "")), false), Plan::Begin("gold"));
        assert_eq!(plan("gold", "", Some(("InProgress", "silver")), false), Plan::Continue("silver"));
        assert_eq!(plan("gold", "", Some(("InProgress", "silver")), true), Plan::Begin("gold"));
        assert_eq!(plan("gold", "", Some(("Infeasible", "silver")), true), Plan::Begin("gold"));
        // Back to what it had: the driver may have changed something of it.
        assert_eq!(plan("gold", "gold", Some(("Infeasible", "silver")), true), Plan::Begin("gold"));
    }

    #[test]
    fn what_nobody_asks_for_any_more_is_forgotten() {
        assert_eq!(plan("", "", Some(("Infeasible", "gold")), true), Plan::Forget);
        assert_eq!(plan("", "", Some(("Pending", "gold")), false), Plan::Forget);
        assert_eq!(plan("", "", Some(("InProgress", "gold")), true), Plan::Continue("gold"));
        assert_eq!(plan("", "gold", None, false), Plan::Forget);
    }
}
