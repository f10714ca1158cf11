//! Who asks, and how a request wants to be carried out.

use crate::contract::Result;
use crate::decode::FieldValidation;
use crate::merge::managed;
use crate::resource::Asker;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// More are not told: a client reads them one by one.
const MOST_WARNINGS: usize = 100;

/// What the client is told beside the answer (`Warning:` headers), each text once.
#[derive(Clone, Debug, Default)]
pub struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Adds one.
    pub fn add(&self, text: impl Into<String>) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = text.into();
        if list.len() < MOST_WARNINGS && !list.contains(&text) {
            list.push(text);
        }
    }

    /// Adds several.
    pub fn extend(&self, texts: impl IntoIterator<Item = String>) {
        texts.into_iter().for_each(|text| self.add(text));
    }

    /// Those that are there, in the order in which they were added.
    #[must_use]
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What admission notes about a request, for the audit log; the first note under a key stays.
#[derive(Clone, Debug, Default)]
pub struct Notes(Arc<Mutex<BTreeMap<String, String>>>);

impl Notes {
    /// Notes something.
    pub fn add(&self, key: impl Into<String>, value: impl Into<String>) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.entry(key.into()).or_insert_with(|| value.into());
    }

    /// What was noted.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a request carries beside its object.
#[derive(Clone, Debug)]
pub struct Context {
    /// Who asks.
    pub asker: Asker,
    /// Everything but the keeping (`dryRun=All`).
    pub dry_run: bool,
    /// The name under which the fields that it sets are owned: `fieldManager`, else the part of the user agent before the
    /// slash ([`Context::manager_of`]).
    pub manager: String,
    /// What to do about fields that are unknown or twice.
    pub validation: FieldValidation,
    /// `force` of an apply.
    pub force: bool,
    /// What the client is told beside the answer.
    pub warnings: Warnings,
    /// What is noted about it for the audit log.
    pub notes: Notes,
    /// Asked before an update or a patch creates: who may change need not be allowed to create.
    pub may_create: MayCreate,
}

/// Refuses a creation, where there is somebody who may.
#[derive(Clone, Default)]
pub struct MayCreate(Option<Arc<dyn Fn() -> Result<()> + Send + Sync>>);

impl MayCreate {
    /// By this rule.
    pub fn by(rule: impl Fn() -> Result<()> + Send + Sync + 'static) -> MayCreate {
        MayCreate(Some(Arc::new(rule)))
    }

    pub(super) fn ask(&self) -> Result<()> {
        self.0.as_ref().map_or(Ok(()), |rule| rule())
    }
}

impl std::fmt::Debug for MayCreate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "MayCreate(by rule)" } else { "MayCreate" })
    }
}

impl Context {
    /// A request of the server itself, under the name of one of its parts; it skips what is only for clients.
    #[must_use]
    pub fn of_system(part: &str) -> Context {
        Context {
            asker: Asker {
                user: "system:apiserver".to_owned(),
                groups: vec!["system:masters".to_owned(), "system:authenticated".to_owned()],
                ..Asker::default()
            },
            dry_run: false,
            manager: part.to_owned(),
            validation: FieldValidation::Ignore,
            force: false,
            warnings: Warnings::default(),
            notes: Notes::default(),
            may_create: MayCreate::default(),
        }
    }

    /// A request of `asker` with every option left out.
    #[must_use]
    pub fn of(asker: Asker, user_agent: &str) -> Context {
        Context {
            asker,
            manager: Context::manager_of(user_agent),
            validation: FieldValidation::Warn,
            ..Context::of_system("")
        }
    }

    /// The manager that a user agent stands for: what is before its slash, of at most 128 bytes, printable.
    #[must_use]
    pub fn manager_of(user_agent: &str) -> String {
        let manager = managed::name_of(user_agent);
        if manager.is_empty() { "unknown".to_owned() } else { manager }
    }
}
