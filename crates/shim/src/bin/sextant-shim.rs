//! The small build of the shim, for exactly this name.

fn main() -> std::process::ExitCode {
    shim::main()
}
