//! One `config.json` or `auth.json`; what we do not know in it is kept when it is written.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::helper::Helpers;
use super::{Credential, CredentialError, normal_key, server_key};

/// A file of credentials is small; anything larger is not one.
const FILE_MAX: u64 = 4 << 20;

pub(super) struct ConfigFile {
    path: PathBuf,
    content: Map<String, Value>,
}

impl ConfigFile {
    pub(super) fn empty(path: &Path) -> Self {
        Self { path: path.to_owned(), content: Map::new() }
    }

    /// `None` if there is no such file, or an empty one.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, CredentialError> {
        let failed = |source| CredentialError::File { act: "read", path: path.to_owned(), source };
        let text = match fs::metadata(path) {
            Ok(metadata) if metadata.len() > FILE_MAX => {
                return Err(failed(io::ErrorKind::FileTooLarge.into()));
            }
            Ok(_) => fs::read(path).map_err(failed)?,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(failed(error)),
        };
        if text.trim_ascii().is_empty() {
            return Ok(None);
        }
        let fault = |fault: String| CredentialError::Content { path: path.to_owned(), fault };
        // serde's own message could quote a secret: say where, not what.
        let value = serde_json::from_slice(&text)
            .map_err(|error| fault(format!("no JSON at line {} column {}", error.line(), error.column())))?;
        match value {
            Value::Object(content) => Ok(Some(Self { path: path.to_owned(), content })),
            _ => Err(fault("must be a JSON object".to_owned())),
        }
    }

    fn fault(&self, fault: String) -> CredentialError {
        CredentialError::Content { path: self.path.clone(), fault }
    }

    fn object(&self, field: &str) -> Result<Option<&Map<String, Value>>, CredentialError> {
        match self.content.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(_) => Err(self.fault(format!("{field} must be an object"))),
        }
    }

    /// The helper for a registry: its own of `credHelpers`, else `credsStore`.
    pub(super) fn helper(&self, registry: &str) -> Result<Option<String>, CredentialError> {
        let helpers = self.object("credHelpers")?;
        let own = helpers.and_then(|all| all.iter().find(|(key, _)| normal_key(key) == registry));
        match own.map(|(_, name)| name).or_else(|| self.content.get("credsStore")) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(name)) if name.is_empty() => Ok(None),
            Some(Value::String(name)) => Ok(Some(name.clone())),
            Some(_) => Err(self.fault("credHelpers and credsStore must name helpers by strings".to_owned())),
        }
    }

    pub(super) fn find(
        &self,
        helpers: &Helpers,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Credential>, CredentialError> {
        if let Some(name) = self.helper(registry)?
            && let Some(credential) = helpers.get(&name, &server_key(registry))?
        {
            return Ok(Some(credential));
        }
        let Some(auths) = self.object("auths")? else { return Ok(None) };
        let wanted = format!("{registry}/{repository}");
        let covers =
            |key: &str| wanted.strip_prefix(key).is_some_and(|rest| rest.starts_with('/') || rest.is_empty());
        let matching = auths.iter().filter(|(key, _)| covers(normal_key(key)));
        let mut entries: Vec<_> = matching.collect();
        entries.sort_by_key(|(key, _)| std::cmp::Reverse(normal_key(key).len()));
        for (key, entry) in entries {
            if let Some(credential) = self.credential(key, entry)? {
                return Ok(Some(credential));
            }
        }
        Ok(None)
    }

    fn credential(&self, key: &str, entry: &Value) -> Result<Option<Credential>, CredentialError> {
        let fault = |what: &str| self.fault(format!("auths[{key:?}].{what}"));
        let Value::Object(entry) = entry else { return Err(fault(" must be an object")) };
        let text = |field: &str| match entry.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(fault(&format!("{field} must be a string"))),
        };
        if let Some(token) = text("registrytoken")? {
            return Ok(Some(Credential::Bearer(token.to_owned())));
        }
        if let Some(token) = text("identitytoken")? {
            return Ok(Some(Credential::Identity(token.to_owned())));
        }
        if let Some(auth) = text("auth")? {
            let decoded = Credential::from_auth(auth);
            return Ok(Some(decoded.ok_or_else(|| fault("auth must be base64 of user:password"))?));
        }
        Ok(match (text("username")?, text("password")?) {
            (Some(username), Some(password)) => {
                Some(Credential::Basic { username: username.to_owned(), password: password.to_owned() })
            }
            _ => None,
        })
    }

    pub(super) fn set(&mut self, key: &str, username: &str, password: &str) -> Result<(), CredentialError> {
        self.object("auths")?;
        let auth = STANDARD.encode(format!("{username}:{password}"));
        let mut auths = match self.content.remove("auths") {
            Some(Value::Object(auths)) => auths,
            _ => Map::new(),
        };
        auths.insert(key.to_owned(), serde_json::json!({ "auth": auth }));
        self.content.insert("auths".to_owned(), Value::Object(auths));
        Ok(())
    }

    pub(super) fn remove(&mut self, registry: &str) -> bool {
        let Some(Value::Object(auths)) = self.content.get_mut("auths") else { return false };
        let before = auths.len();
        auths.retain(|key, _| normal_key(key) != registry);
        auths.len() != before
    }

    /// Replaces the file in one step; a symbolic link is followed, so that a linked file stays linked.
    pub(super) fn write(&self) -> Result<(), CredentialError> {
        let target = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let failed = |source| CredentialError::File { act: "write", path: target.clone(), source };
        let mut text = serde_json::to_vec_pretty(&self.content).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        let temporary = target.with_extension(format!("{}.tmp", std::process::id()));
        let written = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&temporary, &target));
        if written.is_err() {
            // The first error is the one to tell.
            _ = fs::remove_file(&temporary);
        }
        written.map_err(failed)
    }
}

/// Makes the file's folder (0700) and holds it against other writers until dropped.
pub(super) fn lock(path: &Path) -> Result<File, CredentialError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |source| CredentialError::File { act: "lock the folder of", path: path.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let file = File::open(folder).map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}
