/// Why a document of the runtime specification was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not JSON, or a field does not have the type the specification gives it.
    #[error("cannot read {document}: {}{source}", at(.field))]
    Parse {
        /// Which document: `config.json`, `process.json`.
        document: &'static str,
        /// The field's path, as in `linux.namespaces[2].type`; empty for the document as a whole.
        field: String,
        /// What the JSON reader says.
        source: serde_json::Error,
    },
    /// A field breaks a rule of the specification.
    #[error("cannot accept config.json: {field} is {value}: {rule}")]
    Invalid {
        /// The field's path.
        field: String,
        /// Its value, as JSON would show it.
        value: String,
        /// The rule, and what to do to keep it.
        rule: String,
    },
}

impl Error {
    /// The path of the field at fault; empty when the document as a whole is.
    pub fn field(&self) -> &str {
        match self {
            Self::Parse { field, .. } | Self::Invalid { field, .. } => field,
        }
    }
}

fn at(field: &str) -> String {
    // Words of runc's that callers look for.
    let known = match field.split('[').next().unwrap_or_default() {
        "linux.memoryPolicy.flags" => "invalid memory policy flag: ",
        "linux.memoryPolicy" | "linux.memoryPolicy.mode" => "invalid memory policy mode: ",
        _ => "",
    };
    if field.is_empty() { String::new() } else { format!("{field}: {known}") }
}
