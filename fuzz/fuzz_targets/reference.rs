//! Any text as an image reference: no panic, and both forms of what is accepted mean the same again.

use oci_image::reference::Reference;

pub fn run(text: &str) {
    let Ok(reference) = Reference::parse(text) else { return };
    for form in [reference.to_string(), reference.familiar()] {
        assert_eq!(Reference::parse(&form).as_ref(), Ok(&reference), "{form}");
    }
    assert!(reference.tag().is_some() || reference.digest().is_some());
}
