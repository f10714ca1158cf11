//! Reading what may be absent altogether.

use super::base::Fields;
use serde_json::{Map, Value};

/// Reading the fields of an object that may be absent; what is read lives as long as the object.
pub(super) trait Inside<'a> {
    /// The object under `name`.
    fn under(self, name: &str) -> Option<&'a Map<String, Value>>;

    /// The items of the list under `name`; none when absent.
    fn items(self, name: &str) -> &'a [Value];
}

impl<'a> Inside<'a> for Option<&'a Map<String, Value>> {
    fn under(self, name: &str) -> Option<&'a Map<String, Value>> {
        self?.map(name)
    }

    fn items(self, name: &str) -> &'a [Value] {
        self.map_or(&[], |fields| fields.list(name))
    }
}

impl<'a> Inside<'a> for Option<&'a Value> {
    fn under(self, name: &str) -> Option<&'a Map<String, Value>> {
        Fields::map(self?, name)
    }

    fn items(self, name: &str) -> &'a [Value] {
        self.map_or(&[], |fields| fields.list(name))
    }
}
