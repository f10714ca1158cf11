//! Bodies in YAML: read or refused, never a panic, and never more than a bounded value of a short text.

use api::decode::{Expected, FieldValidation, Media, object, value};
use api::schema::builtin;

pub fn run(bytes: &[u8]) {
    if let Ok(read) = value(bytes, Media::Yaml) {
        let json = read.to_string();
        assert!(value(json.as_bytes(), Media::Json).is_ok(), "what YAML says is JSON");
    }
    let schema = builtin("io.k8s.api.core.v1.ConfigMap").expect("it is built in");
    let expected = Expected { api_version: "v1", kind: "ConfigMap", schema };
    let strict = object(bytes, Media::Yaml, &expected, FieldValidation::Strict);
    let lenient = object(bytes, Media::Yaml, &expected, FieldValidation::Ignore);
    if let Ok(strict) = strict {
        assert_eq!(Ok(strict.object), lenient.map(|decoded| decoded.object));
    }
}
