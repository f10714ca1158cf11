//! No parser of ours: a bug planted behind a magic number, a length field and an index, to show that the fuzzer finds
//! what it is there for. The ring `fuzz` fails if it does not.

pub fn run(bytes: &[u8]) {
    let Some((header, rest)) = bytes.split_first_chunk::<8>() else { return };
    let magic = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
    let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    if magic == 0x0102_5358 && length as usize == rest.len() && length > 0 {
        let table = [0_u8; 200];
        assert_eq!(table[usize::from(rest[0])], 0);
    }
}
