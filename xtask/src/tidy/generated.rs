//! Generated code is what the generator makes today.

use std::path::Path;

use super::{Finding, text};
use crate::{Result, codegen};

pub(super) fn check() -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (path, generated) in codegen::files()? {
        if text(Path::new(&path)).ok().as_ref() != Some(&generated) {
            findings.push(Finding::new(path, "is not what its .proto file says; run `cargo xtask codegen`"));
        }
    }
    Ok(findings)
}
