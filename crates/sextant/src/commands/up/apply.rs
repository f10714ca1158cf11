//! `sextant up --apply`: objects that the machine is to have.

use std::path::PathBuf;

use super::programs::Places;
use super::supervisor::say;
use crate::commands::objects::told;
use crate::failure::{Failure, Result};
use crate::objects::Server;
use crate::objects::apply::{Wishes, apply as apply_all};
use crate::objects::documents::{self, Document};

/// What these files have.
pub(super) fn read(files: &[PathBuf]) -> Result<Vec<Document>> {
    if files.is_empty() { Ok(Vec::new()) } else { documents::read(files, false) }
}

/// Applies it to this instance's server, which is up.
pub(super) fn apply(places: &Places, documents: Vec<Document>) -> Result<()> {
    if documents.is_empty() {
        return Ok(());
    }
    let server = Server::own(&places.data)
        .ok_or_else(|| Failure::new(format!("cannot use {}", places.kubeconfig().display())))?;
    // Fields that a person has changed since are set again: the files say what the machine is to have.
    let wishes = Wishes { force: true, ..Wishes::default() };
    let (_, failures) = apply_all(&server, documents, wishes, |one| say(&told(one)))?;
    if failures.is_empty() {
        return Ok(());
    }
    let texts: Vec<String> = failures.iter().map(ToString::to_string).collect();
    Err(Failure::new(texts.join("; ")))
}
