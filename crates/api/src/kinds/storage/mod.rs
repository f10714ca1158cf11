//! The group `storage.k8s.io`: what kinds of volumes there are, and which driver has them.

mod attachment;
mod attributes;
mod capacity;
mod class;
mod driver;
mod node;

use super::base::Kind;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::check;
use crate::resource::Resource;
use serde_json::{Map, Value};

const GROUP: &str = "storage.k8s.io";
/// How many parameters there may be, and how many bytes in all.
const PARAMETERS_MAX: usize = 512;
const PARAMETERS_SIZE_MAX: usize = 256 * 1024;

/// The resources of the group.
#[must_use]
pub fn resources() -> Vec<Resource> {
    [driver::kind(), node::kind(), capacity::kind(), class::kind(), attachment::kind(), attributes::kind()]
        .map(Kind::resource)
        .into()
}

/// What is wrong with the name of who makes volumes.
fn provisioner_errors(errors: &mut FieldErrors, name: &str, path: &Path) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let name = name.to_lowercase();
    errors.extend(check::invalid(path, &name, names::qualified_name(&name)));
}

/// What is wrong with parameters; `needed`: there has to be one.
fn parameter_errors(
    errors: &mut FieldErrors,
    parameters: Option<&Map<String, Value>>,
    needed: bool,
    path: &Path,
) {
    let count = parameters.map_or(0, Map::len);
    if count > PARAMETERS_MAX {
        errors.push(FieldError::too_long(path, PARAMETERS_MAX));
        return;
    }
    let mut size = 0;
    for (key, value) in parameters.into_iter().flatten() {
        if key.is_empty() {
            errors.push(FieldError::invalid(path, "", "field can not be empty."));
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > PARAMETERS_SIZE_MAX {
        errors.push(FieldError::too_long(path, PARAMETERS_SIZE_MAX));
    }
    if needed && count == 0 {
        errors.push(FieldError::required(path, "must contain at least one key/value pair"));
    }
}
