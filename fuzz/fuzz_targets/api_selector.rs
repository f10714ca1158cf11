//! Any text as a label or field selector: no panic, and what is read is written so that it is read again.

use api::contract::selector::{FieldSelector, LabelSelector};

pub fn run(text: &str) {
    if let Ok(selector) = LabelSelector::parse(text) {
        let again = LabelSelector::parse(&selector.to_string()).expect("what is written can be read");
        assert_eq!(again, selector);
        let _ = selector.matches(None);
    }
    if let Ok(selector) = FieldSelector::parse(text) {
        let again = FieldSelector::parse(&selector.to_string()).expect("what is written can be read");
        assert_eq!(again.requirements.len(), selector.requirements.len());
        let _ = selector.matches(|_| String::new());
    }
}
