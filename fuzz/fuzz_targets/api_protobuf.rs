//! Any bytes as a body in protobuf: no panic, and what is read is an object that says what it is.

pub fn run(bytes: &[u8]) {
    if let Ok(value) = api::serve::protobuf::to_json(bytes) {
        assert!(value.get("kind").is_some_and(serde_json::Value::is_string));
    }
}
