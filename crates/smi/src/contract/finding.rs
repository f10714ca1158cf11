//! What there is to say about an object.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something in an object that its author should know of: an event, or part of a condition's message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// What kind of thing.
    pub reason: Reason,
    /// The field, as in `spec.backends[1].weight`.
    pub field: String,
    /// What stands there, cut where it is long; empty where nothing does.
    pub value: String,
    /// What was made of it, and what to do.
    pub advice: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.field)?;
        if !self.value.is_empty() {
            write!(f, "{}: ", self.value)?;
        }
        f.write_str(&self.advice)
    }
}

/// The reason of an event, in Kubernetes' spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// A shape of an older version, or one of two that contradict each other: it was understood.
    Tolerated,
    /// A field that does nothing here.
    Ignored,
    /// A value that can mean nothing; what it belongs to is left out.
    InvalidValue,
    /// A field that must be there is not.
    Missing,
    /// What it names does not exist (yet).
    NotFound,
    /// A backend has no port with the apex's number.
    PortMismatch,
    /// Another object was first, or goes before.
    Conflicted,
}

impl Reason {
    /// As an event has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tolerated => "Tolerated",
            Self::Ignored => "Ignored",
            Self::InvalidValue => "InvalidValue",
            Self::Missing => "Missing",
            Self::NotFound => "NotFound",
            Self::PortMismatch => "PortMismatch",
            Self::Conflicted => "Conflicted",
        }
    }

    /// Whether something does not work; otherwise the event is of type Normal.
    #[must_use]
    pub fn is_warning(self) -> bool {
        self != Self::Tolerated
    }
}
