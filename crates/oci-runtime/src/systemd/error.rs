use super::dbus;

/// Why systemd did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no way to reach it.
    #[error("cannot reach systemd: {tried} ({hint})")]
    NoBus {
        /// The sockets that were tried, each with why not.
        tried: String,
        /// What to do.
        hint: &'static str,
    },
    /// The bus failed, or systemd refused.
    #[error("cannot {act}: {source}")]
    Bus {
        /// What was attempted.
        act: String,
        /// The bus's or systemd's answer.
        source: dbus::Failure,
    },
    /// systemd took the job, and it did not end well.
    #[error("cannot {act}: its job ended with {result:?} (see: systemctl status {unit})")]
    Job {
        /// What was attempted.
        act: String,
        /// The unit.
        unit: String,
        /// As systemd says: `failed`, `canceled`, `timeout`, `dependency`, `skipped`.
        result: String,
    },
    /// systemd answered what it should not.
    #[error("cannot {act}: systemd answered what was not asked: {found}")]
    Answer {
        /// What was attempted.
        act: String,
        /// The answer.
        found: String,
    },
}

impl Error {
    /// Whether a unit of that name is there, and is somebody else's.
    pub fn is_taken(&self) -> bool {
        self.is("org.freedesktop.systemd1.UnitExists")
    }

    /// Whether there is no way to systemd, or no systemd.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::NoBus { .. })
    }

    /// Whether it is systemd's error of this name.
    pub(super) fn is(&self, name: &str) -> bool {
        matches!(self, Self::Bus { source, .. } if source.is(name))
    }
}
