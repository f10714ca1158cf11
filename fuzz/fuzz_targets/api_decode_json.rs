//! Bodies in JSON: read or refused, never a panic; what was read reads the same again.

use api::decode::{Expected, FieldValidation, Media, conform, object, value};
use api::schema::builtin;

const KINDS: [(&str, &str, &str); 3] = [
    ("v1", "Pod", "io.k8s.api.core.v1.Pod"),
    ("apps/v1", "Deployment", "io.k8s.api.apps.v1.Deployment"),
    (
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
    ),
];

pub fn run(bytes: &[u8]) {
    let plain = value(bytes, Media::Json);
    for (api_version, kind, name) in KINDS {
        let schema = builtin(name).expect("it is built in");
        let expected = Expected { api_version, kind, schema };
        let strict = object(bytes, Media::Json, &expected, FieldValidation::Strict);
        let lenient = object(bytes, Media::Json, &expected, FieldValidation::Ignore);
        if let Ok(decoded) = lenient {
            assert!(plain.is_ok(), "well formed for one, malformed for the other");
            if let Ok(strict) = strict {
                assert_eq!(strict.object, decoded.object);
            }
            let mut again = decoded.object.clone();
            let told = conform(&mut again, &expected, FieldValidation::Strict).expect("it was read before");
            assert!(told.is_empty());
            assert_eq!(again, decoded.object);
        } else {
            assert!(strict.is_err());
        }
    }
}
