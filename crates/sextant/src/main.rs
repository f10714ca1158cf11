//! The command line of Sextant and the one place that wires its wings together.
fn main() {}
