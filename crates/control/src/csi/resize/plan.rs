//! To which size a volume is expanded, by what its objects say.

/// What is known of a claim that asks for more than it has.
#[derive(Clone, Copy, Debug)]
pub(super) struct State<'a> {
    /// What the claim asks for.
    pub(super) asked: i64,
    /// What the volume's object has.
    pub(super) volume: i64,
    /// What it was last expanded to, or was to be.
    pub(super) allocated: Option<i64>,
    /// Who is at it: `allocatedResourceStatuses` of the storage.
    pub(super) step: &'a str,
    /// Whether the driver's last answer was that it has ended in failure.
    pub(super) is_over: bool,
    /// Whether the driver's controller expands volumes; else all is the node's.
    pub(super) by_controller: bool,
    /// Whether the claim has the condition FileSystemResizePending.
    pub(super) is_pending: bool,
}

/// The size to expand to; nothing, where it is the node's turn.
///
/// An expansion that the driver may still be at is brought to its end before another is begun: which of two the volume would have in
/// the end, nobody could say.
pub(super) fn size(state: State<'_>) -> Option<i64> {
    let State { asked, volume, allocated, step, .. } = state;
    let begun = allocated.unwrap_or(asked);
    if volume < asked {
        return match step {
            "NodeResizePending" | "NodeResizeInProgress" if volume >= begun => None,
            "NodeResizePending" | "NodeResizeInProgress" | "NodeResizeInfeasible" => Some(begun),
            "ControllerResizeInProgress" if !state.is_over => Some(begun),
            _ => Some(asked),
        };
    }
    // The volume's object is there already: the node is at it, or it was not written down to the end, or the claim was shrunk.
    match step {
        "NodeResizePending" | "NodeResizeInProgress" => None,
        "NodeResizeInfeasible" => Some(if state.by_controller { begun } else { asked }),
        "" if allocated.is_none() && state.is_pending => None,
        _ => Some(begun),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: State<'_> = State {
        asked: 20,
        volume: 10,
        allocated: None,
        step: "",
        is_over: false,
        by_controller: true,
        is_pending: false,
    };

    #[test]
    fn a_volume_that_is_too_small_is_expanded() {
        assert_eq!(size(AT), Some(20));
        // Asked for 15 before: that may still be going on, unless it is known to have failed.
        let begun = State { allocated: Some(15), step: "ControllerResizeInProgress", ..AT };
        assert_eq!(size(begun), Some(15));
        assert_eq!(size(State { is_over: true, ..begun }), Some(20));
        assert_eq!(size(State { step: "ControllerResizeInfeasible", ..begun }), Some(20));
    }

    #[test]
    fn the_node_ends_what_it_has_begun() {
        for step in ["NodeResizePending", "NodeResizeInProgress"] {
            assert_eq!(size(State { volume: 15, allocated: Some(15), step, ..AT }), None, "{step}");
            assert_eq!(size(State { volume: 12, allocated: Some(15), step, ..AT }), Some(15), "{step}");
            assert_eq!(size(State { volume: 20, allocated: Some(20), step, ..AT }), None, "{step}");
        }
        let failed = State { volume: 20, allocated: Some(25), step: "NodeResizeInfeasible", ..AT };
        assert_eq!(size(failed), Some(25));
        assert_eq!(size(State { by_controller: false, ..failed }), Some(20));
    }

    #[test]
    fn what_was_not_written_down_to_the_end_is_gone_on_with() {
        for step in ["ControllerResizeInProgress", "ControllerResizeInfeasible", ""] {
            assert_eq!(size(State { volume: 25, allocated: Some(25), step, ..AT }), Some(25), "{step}");
        }
        assert_eq!(size(State { volume: 20, ..AT }), Some(20));
        assert_eq!(size(State { volume: 20, is_pending: true, ..AT }), None);
    }
}
