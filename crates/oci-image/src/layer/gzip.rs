//! gzip's framing (RFC 1952) around deflate: members one after the other, as pigz, bgzip and eStargz write them.
//!
//! The CRC is not computed: the whole tar is hashed against its diffID, which says more.

/// Takes a member's header off a stream, byte by byte.
#[derive(Debug, Default)]
pub(super) struct Header {
    at: usize,
    flags: u8,
    extra: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Fixed,
    ExtraLow,
    ExtraHigh,
    Extra,
    Name,
    Comment,
    Crc(u8),
    Done,
}

impl Header {
    /// Reads on in `input`; how much was taken and whether the header is through.
    pub(super) fn read(&mut self, input: &[u8]) -> Result<(usize, bool), &'static str> {
        for (i, &byte) in input.iter().enumerate() {
            self.byte(byte)?;
            if self.state == State::Done {
                return Ok((i + 1, true));
            }
        }
        Ok((input.len(), false))
    }

    fn byte(&mut self, byte: u8) -> Result<(), &'static str> {
        match self.state {
            State::Fixed => {
                match (self.at, byte) {
                    (0, b) if b != 0x1f => return Err("gzip: bytes that belong to no member"),
                    (1, b) if b != 0x8b => return Err("gzip: bytes that belong to no member"),
                    (2, b) if b != 8 => return Err("gzip: a compression method other than deflate"),
                    (3, b) if b & 0xe0 != 0 => return Err("gzip: reserved flags are set"),
                    (3, b) => self.flags = b,
                    _ => {}
                }
                self.at += 1;
                if self.at == 10 {
                    self.state = State::ExtraLow;
                    self.pass();
                }
            }
            State::ExtraLow => {
                self.extra = usize::from(byte);
                self.state = State::ExtraHigh;
            }
            State::ExtraHigh => {
                self.extra |= usize::from(byte) << 8;
                self.state = if self.extra == 0 { State::Name } else { State::Extra };
                self.pass();
            }
            State::Extra => {
                self.extra -= 1;
                if self.extra == 0 {
                    self.state = State::Name;
                    self.pass();
                }
            }
            State::Name if byte == 0 => {
                self.state = State::Comment;
                self.pass();
            }
            State::Comment if byte == 0 => {
                self.state = State::Crc(2);
                self.pass();
            }
            State::Crc(1) => self.state = State::Done,
            State::Crc(n) => self.state = State::Crc(n - 1),
            State::Name | State::Comment | State::Done => {}
        }
        Ok(())
    }

    /// Passes over the fields whose flags are not set.
    fn pass(&mut self) {
        if self.state == State::ExtraLow && self.flags & 4 == 0 {
            self.state = State::Name;
        }
        if self.state == State::Name && self.flags & 8 == 0 {
            self.state = State::Comment;
        }
        if self.state == State::Comment && self.flags & 16 == 0 {
            self.state = State::Crc(2);
        }
        if self.state == State::Crc(2) && self.flags & 2 == 0 {
            self.state = State::Done;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_optional_field_is_passed_over() {
        for flags in 0..32_u8 {
            let mut bytes = vec![0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 3];
            if flags & 4 != 0 {
                bytes.extend([3, 0, b'a', b'b', b'c']);
            }
            if flags & 8 != 0 {
                bytes.extend(b"name\0");
            }
            if flags & 16 != 0 {
                bytes.extend(b"comment\0");
            }
            if flags & 2 != 0 {
                bytes.extend([1, 2]);
            }
            let length = bytes.len();
            bytes.extend(b"data");
            let mut whole = Header::default();
            assert_eq!(whole.read(&bytes), Ok((length, true)), "{flags}");
            let mut single = Header::default();
            for (i, byte) in bytes.iter().take(length).enumerate() {
                assert_eq!(single.read(&[*byte]), Ok((1, i + 1 == length)), "{flags}");
            }
        }
    }
}
