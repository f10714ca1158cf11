//! Why a connection ends once its handshake is over.

use rustls::AlertDescription;

fn named(alert: &u8) -> AlertDescription {
    AlertDescription::from(*alert)
}

/// What is wrong with what came, or with what is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is not the peer's, or was changed on its way.
    #[error("cannot decrypt a record of the peer")]
    Mac,
    /// It is longer than a record may be.
    #[error("the peer sent a record that is longer than one may be")]
    Overflow,
    /// It may not come, or not now.
    #[error("the peer sent {0}")]
    Unexpected(&'static str),
    /// It cannot be read.
    #[error("the peer sent {0}, which cannot be read")]
    Malformed(&'static str),
    /// It says what may not be said.
    #[error("the peer sent {0}, which may not be")]
    Illegal(&'static str),
    /// The peer has ended the connection.
    #[error("received fatal alert: {:?}", named(.0))]
    Alert(u8),
    /// It is this side's doing.
    #[error("no key is left to go on with")]
    Own,
}

impl Fault {
    /// What the peer is told (RFC 8446, 6.2); nothing if it has ended the connection itself.
    #[must_use]
    pub fn alert(self) -> Option<u8> {
        Some(match self {
            Self::Unexpected(_) => 10,
            Self::Mac => 20,
            Self::Overflow => 22,
            Self::Illegal(_) => 47,
            Self::Malformed(_) => 50,
            Self::Own => 80,
            Self::Alert(_) => return None,
        })
    }
}
