//! All of Sextant's CNI plugins in one small program: what it is called says which one it is.

fn main() -> std::process::ExitCode {
    let called = std::env::args_os().next().unwrap_or_default();
    let name = std::path::Path::new(&called).file_name().and_then(|name| name.to_str());
    cni::plugin::program::main(name.unwrap_or_default())
}
