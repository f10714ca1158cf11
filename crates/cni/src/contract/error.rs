use std::fmt;

use serde::{Deserialize, Serialize};

/// The codes of the CNI specification, section 5 ("Error").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "u32", into = "u32")]
pub enum Code {
    /// 1: the plugin does not speak the configuration's version.
    IncompatibleVersion,
    /// 2: a field of the configuration is known but not supported.
    UnsupportedField,
    /// 3: the container is unknown or gone; the runtime need not clean up.
    UnknownContainer,
    /// 4: a CNI_* variable is missing or malformed.
    InvalidEnvironment,
    /// 5: input or output failed.
    Io,
    /// 6: content could not be decoded.
    Decode,
    /// 7: the configuration is invalid.
    InvalidConfig,
    /// 11: a passing condition; the runtime should try again.
    TryAgain,
    /// 50: the plugin cannot serve ADD requests.
    NotAvailable,
    /// 51: it cannot, and existing attachments may be cut off.
    NotAvailableLimited,
    /// Any other: a plugin's own from 100 on.
    Other(u32),
}

impl From<u32> for Code {
    fn from(code: u32) -> Self {
        match code {
            1 => Self::IncompatibleVersion,
            2 => Self::UnsupportedField,
            3 => Self::UnknownContainer,
            4 => Self::InvalidEnvironment,
            5 => Self::Io,
            6 => Self::Decode,
            7 => Self::InvalidConfig,
            11 => Self::TryAgain,
            50 => Self::NotAvailable,
            51 => Self::NotAvailableLimited,
            other => Self::Other(other),
        }
    }
}

impl From<Code> for u32 {
    fn from(code: Code) -> Self {
        match code {
            Code::IncompatibleVersion => 1,
            Code::UnsupportedField => 2,
            Code::UnknownContainer => 3,
            Code::InvalidEnvironment => 4,
            Code::Io => 5,
            Code::Decode => 6,
            Code::InvalidConfig => 7,
            Code::TryAgain => 11,
            Code::NotAvailable => 50,
            Code::NotAvailableLimited => 51,
            Code::Other(other) => other,
        }
    }
}

/// Code of failures that the specification has no number for: the kernel or the ledger said no.
pub const FAILED: Code = Code::Other(100);

/// What goes wrong in CNI, in the shape that the contract gives it: a code for programs, a message for people.
#[derive(Debug)]
pub struct Error {
    /// For programs.
    pub code: Code,
    /// Lower case: "cannot <verb> <object>".
    pub message: String,
    /// More words, such as a hint; may be empty.
    pub details: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error with nothing behind it.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: String::new(), source: None }
    }

    /// An act that failed because of `source`.
    pub fn because(
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { code: FAILED, message: message.into(), details: String::new(), source: Some(source.into()) }
    }

    /// The same with another code.
    #[must_use]
    pub fn code(self, code: Code) -> Self {
        Self { code, ..self }
    }

    /// The same with a hint for the operator.
    #[must_use]
    pub fn hint(self, details: impl Into<String>) -> Self {
        Self { details: details.into(), ..self }
    }

    /// What is written to stdout: `{cniVersion, code, msg, details}`.
    pub fn to_json(&self, version: &str) -> serde_json::Value {
        let message = match &self.source {
            Some(source) => format!("{}: {source}", self.message),
            None => self.message.clone(),
        };
        serde_json::json!({
            "cniVersion": version,
            "code": u32::from(self.code),
            "msg": message,
            "details": self.details,
        })
    }

    /// Reads what another plugin wrote to stdout before it failed.
    pub fn from_json(bytes: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Wire {
            code: u32,
            #[serde(default)]
            msg: String,
            #[serde(default)]
            details: String,
        }
        let wire: Wire = serde_json::from_slice(bytes).ok()?;
        Some(Self { code: wire.code.into(), message: wire.msg, details: wire.details, source: None })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        if !self.details.is_empty() {
            write!(f, " ({})", self.details)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<kernel::Error> for Error {
    fn from(source: kernel::Error) -> Self {
        // The kernel's errors say the act themselves.
        Self { code: FAILED, message: source.to_string(), details: String::new(), source: None }
    }
}

impl From<ledger::Error> for Error {
    fn from(error: ledger::Error) -> Self {
        match error {
            // A shared effect that could not be made: the words and the code are those of who made it.
            ledger::Error::MakeShared { name, source } => match source.downcast::<Self>() {
                Ok(error) => *error,
                Err(source) => {
                    Self::because("cannot keep the ledger", ledger::Error::MakeShared { name, source })
                }
            },
            error => Self::because("cannot keep the ledger", error),
        }
    }
}

/// What a teardown could not do. It did all the rest.
#[derive(Debug)]
pub struct Errors(pub Vec<Error>);

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

impl Errors {
    /// Success if there are none.
    pub fn into_result(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}
