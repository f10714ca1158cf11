//! Any bytes: they are a D-Bus message or are refused, and a message that was read is written and read again the same.

use oci_runtime::systemd::dbus::{Kind, Message, parse_address};

pub fn run(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = parse_address(text);
        let _ = oci_runtime::systemd::Unit::parse(text, "id", false);
        let key = "org.systemd.property.Something".to_owned();
        let _ = oci_runtime::systemd::from_annotations(&[(key, text.to_owned())].into());
    }
    if let Ok(message) = Message::read(bytes)
        && message.kind != Kind::Other
    {
        let again = message.to_bytes().expect("what was read can be written");
        let again = Message::read(&again).expect("what was written can be read");
        // A number that is none is not equal to itself.
        assert_eq!(format!("{again:?}"), format!("{message:?}"));
    }
}
