//! Says where the small build begins: `kernel::arch` tells what for.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
        println!("cargo:rustc-link-arg-bins=-Wl,--undefined=sextant_entry,--entry=sextant_entry");
    }
}
