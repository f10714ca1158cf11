//! Any words, a line each, as the command line of `sextant-oci`: a command, or one message that is hardly longer than what
//! was said.

use oci_runtime::command::read;

pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let words: Vec<String> = text.lines().map(str::to_owned).collect();
    match read(&words) {
        Ok(None) => {}
        Ok(Some(name)) => assert!(words.iter().any(|word| word == name)),
        Err(message) => {
            assert!(message.starts_with("cannot "), "{message}");
            // What is quoted may be escaped.
            assert!(message.len() <= 256 + 8 * text.len(), "{message}");
        }
    }
    // What stands before the command says nothing about its own words.
    let mut more = vec!["--root=/run/other".to_owned()];
    more.extend_from_slice(&words);
    assert_eq!(read(&more), read(&words));
}
