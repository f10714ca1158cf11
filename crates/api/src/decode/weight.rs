//! How much memory a body comes to: a few bytes of text can be an object, which takes hundreds.

use super::scan::MOST_DEEP;
use crate::contract::{Details, Reason, Result, Status};

/// An object that is not empty, and what each of its fields or each item of a list adds.
pub(super) const OBJECT: usize = 640;
pub(super) const VALUE: usize = 32;

/// What the values of a body may come to.
pub(super) const MOST: usize = 64 << 20;

/// Refuses JSON whose values would take too much memory. It looks at the text alone, before anything is made of it.
///
/// # Errors
/// 413.
pub(super) fn check(json: &[u8]) -> Result<()> {
    let (mut weight, mut quoted, mut depth) = (json.len(), false, 0_usize);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if quoted => drop(bytes.next()),
            b'{' if !quoted => (weight, depth) = (weight + OBJECT, depth + 1),
            b'[' if !quoted => (weight, depth) = (weight + VALUE, depth + 1),
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            b',' if !quoted => weight += VALUE,
            _ => {}
        }
        if depth > MOST_DEEP {
            // Who reads it refuses it there.
            return Ok(());
        }
    }
    if weight <= MOST { Ok(()) } else { Err(too_many_values()) }
}

/// 413 of a body that is small and means much.
pub(crate) fn too_many_values() -> Status {
    let message = "Request entity too large: its objects would take more than 64 MiB of memory";
    Status::new(413, Reason::RequestEntityTooLarge, message).with(Details::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Media, value};

    #[test]
    fn many_small_objects_are_too_much_and_long_texts_are_not() {
        let dense = format!("[{}{{}}]", "{\"a\":1},".repeat(300_000));
        assert_eq!(value(dense.as_bytes(), Media::Json).unwrap_err().code, 413);
        let yaml = "- a:\n".repeat(150_000);
        assert!(value(yaml.as_bytes(), Media::Yaml).unwrap_err().message.contains("64 MiB"));
        let text = format!("{{\"a\":\"{}\\\"{{\"}}", "{,".repeat(1 << 20));
        assert!(check(text.as_bytes()).is_ok());
        let numbers = format!("[{}1]", "1,".repeat(1 << 20));
        assert!(check(numbers.as_bytes()).is_ok());
        let manifests = "- name: a\n  value: b\n".repeat(10_000);
        assert!(value(manifests.as_bytes(), Media::Yaml).is_ok());
    }
}
