//! Where objects are kept: keys, revisions, transactions and watches over redb.

use bytes::Bytes;

/// The name of one object in the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// `pods`, `deployments.apps` ([`crate::resource::Resource::stored_as`]).
    pub resource: String,
    /// Empty for what is not in a namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

/// An object to be kept: its JSON, and where in it the revision is written when it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The JSON, with `"resourceVersion":""` in its metadata.
    pub json: Vec<u8>,
    /// Between the two quotes of that empty string.
    pub revision_at: usize,
}

/// An object as it is kept; its JSON is complete, with the resource version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub key: Key,
    /// The revision of its last change.
    pub revision: u64,
    /// Its JSON.
    pub json: Bytes,
}

/// What has to be so, or the transaction does not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Any,
    /// That there is no such object.
    Absent,
    /// That its last change was at this revision.
    Revision(u64),
}

/// One change of a transaction.
#[derive(Clone, Debug)]
pub struct Write {
    /// Of which object.
    pub key: Key,
    /// Under which condition.
    pub expect: Expect,
    /// The new object; `None` deletes it.
    pub value: Option<Document>,
}
