use std::os::fd::OwnedFd;

use kernel::seccomp::{Flags, MAX_INSTRUCTIONS, SockFilter};

/// A filter, ready to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The instructions.
    pub instructions: Vec<SockFilter>,
    /// How it is loaded.
    pub flags: Flags,
}

impl Program {
    /// Loads the filter for the calling thread; the notifications' descriptor if a rule asks an agent. It does not
    /// allocate: it may run between clone and exec.
    ///
    /// # Errors
    /// As [`kernel::seccomp::load`].
    pub fn load(&self) -> rustix::io::Result<Option<OwnedFd>> {
        kernel::seccomp::load(&self.instructions, self.flags)
    }

    /// Flags and instructions as this machine has them in memory: for a cache, not for another machine.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + self.instructions.len() * 8);
        bytes.extend_from_slice(&u64::from(self.flags.bits()).to_ne_bytes());
        for instruction in &self.instructions {
            bytes.extend_from_slice(&instruction.code.to_ne_bytes());
            bytes.extend_from_slice(&[instruction.jt, instruction.jf]);
            bytes.extend_from_slice(&instruction.k.to_ne_bytes());
        }
        bytes
    }

    /// What [`Program::to_bytes`] wrote; `None` for what it cannot have written. Whether the instructions make
    /// sense is for the kernel to say.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let (flags, instructions) = words.split_first()?;
        if instructions.is_empty() || instructions.len() > MAX_INSTRUCTIONS || !rest.is_empty() {
            return None;
        }
        let one = |&[c0, c1, jt, jf, k0, k1, k2, k3]: &[u8; 8]| SockFilter {
            code: u16::from_ne_bytes([c0, c1]),
            jt,
            jf,
            k: u32::from_ne_bytes([k0, k1, k2, k3]),
        };
        let flags = Flags::from_bits(u32::try_from(u64::from_ne_bytes(*flags)).ok()?);
        Some(Self { instructions: instructions.iter().map(one).collect(), flags })
    }
}

/// A name for content: FNV-1a in 128 bits, the same on every machine and in every version.
///
/// It tells contents apart that nobody made to collide. Who can choose the content can make two collide, so a
/// cache under this name is for a directory that only root reads and writes, and for profiles that root chose; one
/// for other people's profiles has to keep the content and compare it.
pub fn digest(content: &[u8]) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    content.iter().fold(OFFSET, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME))
}
