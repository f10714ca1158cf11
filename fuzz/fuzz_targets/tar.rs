//! Layers as they come from registries: read, and never a panic or an endless loop.

use std::io::{BufReader, Read};

use oci_image::{
    contract::Algorithm,
    layer::{Inflate, tar::Reader},
};

fn read(input: impl std::io::BufRead) {
    let mut reader = Reader::new(input);
    while let Ok(true) = reader.next() {
        while let Ok(data) = reader.data() {
            let length = data.len();
            if length == 0 {
                break;
            }
            reader.consume(length);
        }
    }
}

pub fn run(data: &[u8]) {
    // Small buffers, so that every boundary is met.
    read(BufReader::with_capacity(7, data));
    read(Inflate::new(data.take(1 << 20), Algorithm::Sha256, 1 << 24));
}
