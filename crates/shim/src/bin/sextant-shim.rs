//! The small build of what runs once a container, for exactly these names.
#![no_main]

kernel::main!(run);

fn run() -> u8 {
    let called = std::env::args_os().next().unwrap_or_default();
    match std::path::Path::new(&called).file_name().and_then(|name| name.to_str()) {
        Some(name) if oci_runtime::command::is_name(name) => oci_runtime::command::run(std::env::args_os()),
        Some(shim::PAUSE) => shim::pause(),
        Some(shim::containerd::NAME) => shim::containerd::run(std::env::args_os()),
        _ => shim::run(),
    }
}
