//! Two blocks of headers, one after the other: what they say is written again and says the same. The first byte is the size of the table, the second
//! where the second block begins.

use mesh::h2::hpack::{Bounds, Decoder, Encoder, Fields};

pub fn run(data: &[u8]) {
    let [table, cut, bytes @ ..] = data else { return };
    let (mut decoder, bounds) = (Decoder::new(usize::from(*table) * 16), Bounds { size: 8192, count: 64 });
    let (mut encoder, mut again) = (Encoder::default(), Decoder::new(4096));
    encoder.allow(usize::from(*table) * 16);
    let (first, second) = bytes.split_at(bytes.len() * usize::from(*cut) / 256);
    let mut fields = Fields::default();
    for part in [first, second] {
        fields.clear();
        let Ok(fits) = decoder.decode(part, &bounds, &mut fields) else { return };
        // One more than there may be is seen, and no more.
        assert!(fields.len() <= bounds.count + 1);
        assert!(!fits || (fields.size() <= bounds.size && fields.len() <= bounds.count));
        assert!(decoder.size() <= usize::from(*table) * 16);
        let (mut read, mut block) = (Fields::default(), Vec::new());
        encoder.encode(fields.iter(), &mut block);
        let all = Bounds { size: usize::MAX, count: usize::MAX };
        assert_eq!(again.decode(&block, &all, &mut read), Ok(true), "what is written can be read");
        assert!(fields.iter().map(|f| (f.name, f.value)).eq(read.iter().map(|f| (f.name, f.value))));
        assert!(fields.iter().zip(read.iter()).all(|(sent, read)| read.never || !sent.never));
        assert_eq!(encoder.size(), again.size(), "both sides have one table");
    }
}
