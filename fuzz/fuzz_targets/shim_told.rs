//! Any bytes as what programs of others tell a shim: no panic, messages of one line and bounded length, numbers of processes.

use shim::told;

pub fn run(bytes: &[u8]) {
    if let Some(text) = told::failure(bytes) {
        assert!(text.len() <= 4096 && !text.chars().any(char::is_control), "{text:?}");
    }
    match told::bootstrap(bytes) {
        Ok(bootstrap) => {
            assert!(bootstrap.socket.is_absolute() && bootstrap.service().starts_with("containerd.task.v"));
        }
        Err(text) => assert!(text.len() < 64 << 10 && !text.chars().any(char::is_control), "{text:?}"),
    }
    assert!(told::pid(bytes).is_none_or(|pid| pid > 0));
}
