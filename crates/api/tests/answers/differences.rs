//! Where our answers differ from those of Kubernetes on purpose.

/// Which, and why.
pub(crate) const KNOWN: &[(&str, &str)] = &[
    ("not acceptable", "nothing is answered in protobuf"),
    ("version", "the build is ours: its date, commit and compiler are not those of Kubernetes"),
];
