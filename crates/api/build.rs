//! Makes the schemas of the built-in kinds from a crate that knows them.

fn main() {}
