//! Any object as one of each built-in kind, which the first line names (or its first byte chooses): defaulted, prepared, validated, told as a row,
//! updated by itself; no panic, and what is defaulted stays.

use std::sync::LazyLock;

use api::contract::Object;
use api::decode::{Expected, FieldValidation, Media, object};
use api::resource::{Part, Resource};

static KINDS: LazyLock<Vec<Resource>> = LazyLock::new(api::kinds::builtin);

pub fn run(bytes: &[u8]) {
    let Some(at) = bytes.iter().position(|byte| *byte == b'\n') else { return };
    let (name, bytes) = (&bytes[..at], &bytes[at + 1..]);
    let chosen = usize::from(name.first().copied().unwrap_or_default()) % KINDS.len();
    let named = KINDS.iter().find(|resource| resource.names.kind.as_bytes() == name);
    let resource = named.unwrap_or(&KINDS[chosen]);
    let (api_version, strategy) = (resource.names.api_version(), &resource.strategy);
    let expected =
        Expected { api_version: &api_version, kind: &resource.names.kind, schema: strategy.schema() };
    // Kind and version are whatever they are: it is the rest that matters here.
    let Ok(serde_json::Value::Object(mut read)) = serde_json::from_slice(bytes) else { return };
    read.insert("apiVersion".to_owned(), api_version.clone().into());
    read.insert("kind".to_owned(), resource.names.kind.as_ref().into());
    let text = serde_json::Value::Object(read).to_string();
    let Ok(decoded) = object(text.as_bytes(), Media::Json, &expected, FieldValidation::Ignore) else {
        return;
    };
    let mut made: Object = decoded.object;
    strategy.default(&mut made);
    strategy.prepare_create(&mut made);
    let errors = strategy.validate(&made);
    strategy.warnings(&made, None);
    strategy.row(&made, 1_800_000_000);
    for field in strategy.selectable_names() {
        strategy.selected(&made, &field);
    }
    let mut updated = made.clone();
    strategy.default(&mut updated);
    for part in [&[Part::Main], strategy.parts()].concat() {
        if part != Part::Scale {
            strategy.prepare_update(part, &mut updated, &made);
            strategy.validate_update(part, &updated, &made);
        }
    }
    if errors.is_empty() {
        let mut again = made.clone();
        strategy.default(&mut again);
        assert_eq!(again, made, "what is defaulted stays");
    }
}
