//! The fuzz targets of this crate over their seeds, and over seeds that were cut, joined and changed: what the fuzzer does for longer.

#![allow(unreachable_pub, reason = "what a target runs is public to the program that all targets are")]

use std::path::Path;

use mesh::h2::Side;
use mesh::h2::frame::{PAYLOAD, PREFACE, read};
use mesh::h2::hpack::{Decoder, Fields};
use mesh::http1::{Body, Bounds, Ending, Framing, Head, Method};
use proptest::prelude::*;

#[path = "../../../fuzz/fuzz_targets/mesh_body.rs"]
mod body;
#[path = "../../../fuzz/fuzz_targets/mesh_h2_frames.rs"]
mod h2_frames;
#[path = "../../../fuzz/fuzz_targets/mesh_hpack.rs"]
mod hpack;
#[path = "../../../fuzz/fuzz_targets/mesh_records.rs"]
mod records;
#[path = "../../../fuzz/fuzz_targets/mesh_request.rs"]
mod request;
#[path = "../../../fuzz/fuzz_targets/mesh_response.rs"]
mod response;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let entries = std::fs::read_dir(&folder).expect("it has seeds");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("it can be read").path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths.iter().map(|path| std::fs::read(path).expect("it can be read")).collect()
}

const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b":",
    b"\r\n\r\n",
    b"Content-Length: 1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: host\r\n",
    b"Connection: upgrade\r\n",
    b"Upgrade: h2c\r\n",
    b"Upgrade: websocket\r\n",
    b"0\r\n\r\n",
    b";",
    b"%2e%2e",
    b"../",
    b"\0",
    b"\xff",
];

/// What is done to a seed: at which place, what, with which byte or word.
type Edit = (prop::sample::Index, u8, u8);

fn edited(mut seed: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    for (place, what, byte) in edits {
        if seed.is_empty() {
            break;
        }
        let at = place.index(seed.len());
        match what % 4 {
            0 => seed[at] = *byte,
            1 => {
                seed.remove(at);
            }
            _ => {
                let word = WORDS[usize::from(*byte) % WORDS.len()];
                seed.splice(at..at, word.iter().copied());
            }
        }
    }
    seed
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    prop::collection::vec(any::<Edit>(), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_are_refused_or_stay_what_they_are(seed in any::<prop::sample::Index>(), edits in edits()) {
        let seeds = seeds("mesh_request");
        request::run(&edited(seeds[seed.index(seeds.len())].clone(), &edits));
    }

    #[test]
    fn answers_are_refused_or_stay_what_they_are(seed in any::<prop::sample::Index>(), edits in edits()) {
        let seeds = seeds("mesh_response");
        response::run(&edited(seeds[seed.index(seeds.len())].clone(), &edits));
    }

    #[test]
    fn bodies_are_the_same_in_all_pieces(seed in any::<prop::sample::Index>(), edits in edits()) {
        let seeds = seeds("mesh_body");
        body::run(&edited(seeds[seed.index(seeds.len())].clone(), &edits));
    }

    #[test]
    fn frames_say_the_same_in_all_pieces(seed in any::<prop::sample::Index>(), edits in edits()) {
        let seeds = seeds("mesh_h2_frames");
        h2_frames::run(&edited(seeds[seed.index(seeds.len())].clone(), &edits));
    }

    #[test]
    fn records_say_the_same_in_all_pieces(seed in any::<prop::sample::Index>(), edits in edits()) {
        let seeds = seeds("mesh_records");
        records::run(&edited(seeds[seed.index(seeds.len())].clone(), &edits));
    }

    #[test]
    fn blocks_of_headers_are_refused_or_say_the_same_again(seed in any::<prop::sample::Index>(), edits in edits()) {
        let seeds = seeds("mesh_hpack");
        hpack::run(&edited(seeds[seed.index(seeds.len())].clone(), &edits));
    }
}

#[test]
fn seeds_of_records_pass() {
    for seed in seeds("mesh_records") {
        records::run(&seed);
    }
}

#[test]
fn seeds_are_what_they_are_for() {
    let bounds = Bounds::default();
    let mut head = Head::default();
    for seed in seeds("mesh_request") {
        let length = Ending::default().find(&seed, &bounds).unwrap().expect("it has an end");
        head.request(&seed[..length], &bounds).expect("it is a request");
        request::run(&seed);
    }
    for seed in seeds("mesh_response") {
        let length = Ending::default().find(&seed[1..], &bounds).unwrap().expect("it has an end");
        head.response(&seed[1..=length], Method::Other, &bounds).expect("it is a response");
        response::run(&seed);
    }
    for seed in seeds("mesh_body") {
        if seed[0] % 4 == 3 {
            let mut body = Body::new(Framing::Chunked);
            body.take(&seed[2..]).expect("it is a body");
            assert!(body.is_done());
        }
        body::run(&seed);
    }
    for seed in seeds("mesh_h2_frames") {
        let side = if seed[0] & 0x80 == 0 { Side::Server } else { Side::Client };
        let rest = if side == Side::Server {
            seed[1..].strip_prefix(PREFACE).expect("it begins so")
        } else {
            &seed[1..]
        };
        let mut rest = rest;
        while !rest.is_empty() {
            let (_, used) = read(rest, PAYLOAD as u32).expect("it is a frame").expect("it is whole");
            rest = &rest[used..];
        }
        h2_frames::run(&seed);
    }
    for seed in seeds("mesh_hpack") {
        let (mut decoder, mut fields) = (Decoder::new(usize::from(seed[0]) * 16), Fields::default());
        let (first, second) = seed[2..].split_at((seed.len() - 2) * usize::from(seed[1]) / 256);
        let bounds = mesh::h2::hpack::Bounds { size: 8192, count: 64 };
        assert_eq!(decoder.decode(first, &bounds, &mut fields), Ok(true));
        assert_eq!(decoder.decode(second, &bounds, &mut fields), Ok(true));
        hpack::run(&seed);
    }
}
