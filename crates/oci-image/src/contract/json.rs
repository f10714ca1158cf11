//! How Go writes JSON, and how a refusal names its field.

use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use super::{
    MediaType,
    error::{Error, Result},
};

/// Parses a document of at most `limit` bytes; an error carries the path of the field.
pub(super) fn parse<T: DeserializeOwned>(document: &'static str, limit: u64, bytes: &[u8]) -> Result<T> {
    if bytes.len() as u64 > limit {
        return Err(Error::TooLarge { document, size: bytes.len() as u64, limit });
    }
    // serde would take an array for an object, its elements for the fields.
    if bytes.trim_ascii_start().first().is_some_and(|&first| first == b'[') {
        return Err(Error::Invalid { document, field: ".".into(), reason: "it is a list, no object".into() });
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|e| {
        let field = e.path().to_string();
        Error::Json { document, field, source: e.into_inner() }
    })?;
    json.end().map_err(|source| Error::Json { document, field: ".".into(), source })?;
    Ok(value)
}

/// Go writes `null` for an empty list or map.
pub(super) fn null_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    d: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

/// A media type without its parameters.
pub(super) fn media_type<'de, D: Deserializer<'de>>(d: D) -> Result<MediaType, D::Error> {
    Ok(MediaType::new(String::deserialize(d)?))
}

/// A list of strings that old Docker versions wrote as one string.
pub(super) fn words<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        One(String),
        Many(Vec<String>),
    }
    Ok(Option::<Words>::deserialize(d)?.map(|w| match w {
        Words::One(word) => vec![word],
        Words::Many(words) => words,
    }))
}
