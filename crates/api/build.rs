//! Makes the schemas of the built-in kinds: structure from a crate that knows the types, what that crate leaves out (how
//! lists merge, Go's types, defaults) from `src/schema/facts/*.txt`, and kinds that it does not know from
//! `src/schema/facts/*.json`.
//!
//! Two files go into `OUT_DIR`: `arena.bin`, which `schema::builtin` loads, and `definitions.json.zst`, which OpenAPI
//! tells.

#[path = "build/blob.rs"]
mod blob;
#[path = "build/complete.rs"]
mod complete;
#[path = "build/facts.rs"]
mod facts;
#[path = "build/nodes.rs"]
mod nodes;
#[path = "build/roots.rs"]
mod roots;

use std::path::Path;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=src/schema/facts");
    let facts = facts::Facts::read(Path::new("src/schema/facts"));
    let mut definitions = roots::definitions();
    complete::with_facts(&mut definitions, &facts);
    let arena = nodes::Arena::of(&definitions, &facts);

    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let out = Path::new(&out);
    fs::write(out.join("arena.bin"), blob::encode(&arena)).expect("OUT_DIR can be written");
    let json = serde_json::to_vec(&definitions).expect("definitions are JSON");
    let json = zstd::bulk::compress(&json, 19).expect("memory is enough to compress");
    fs::write(out.join("definitions.json.zst"), json).expect("OUT_DIR can be written");
}
