//! The one structure that every ioctl of device mapper takes, with what follows it (`struct dm_ioctl`).

use std::fs::File;

use rustix::io::Errno;
use rustix::ioctl::opcode;

use super::Target;

/// Where device mapper is asked.
pub(super) const CONTROL: &str = "/dev/mapper/control";

/// Bytes of the structure.
const HEADER: usize = 312;
/// Room for an answer at first; more is taken where it does not do.
const ROOM: usize = 16 << 10;
/// The most that an answer may have: no list of devices is longer.
const MOST: usize = 16 << 20;
/// Bytes of `struct dm_target_spec`.
const SPEC: usize = 40;

/// Bytes that a name has at most, and a UUID, which are the same here.
pub(super) const NAME_AT_MOST: usize = 127;

const DATA_SIZE: usize = 12;
const DATA_START: usize = 16;
const TARGETS: usize = 20;
const OPENED: usize = 24;
const FLAGS: usize = 28;
const NUMBER: usize = 40;
const NAME: usize = 48;
const UUID: usize = 176;

pub(super) const READ_ONLY: u32 = 1;
pub(super) const SUSPEND: u32 = 1 << 1;
pub(super) const STATUS_TABLE: u32 = 1 << 4;
pub(super) const ACTIVE: u32 = 1 << 5;
const BUFFER_FULL: u32 = 1 << 8;
pub(super) const NO_LOCK: u32 = 1 << 10;
pub(super) const NO_FLUSH: u32 = 1 << 11;
const SECURE: u32 = 1 << 15;
pub(super) const DEFERRED: u32 = 1 << 17;

/// What is asked.
#[derive(Clone, Copy)]
pub(super) enum Command {
    Version = 0,
    List = 2,
    Create = 3,
    Remove = 4,
    /// Suspends, or resumes with the table that was loaded last.
    Suspend = 6,
    Info = 7,
    Load = 9,
    Status = 12,
    Message = 14,
}

/// A request, and the answer after it.
pub(super) struct Request {
    command: Command,
    /// Whole words, so that the kernel finds its structures aligned. Overwritten when it is used no more.
    words: Vec<u64>,
    length: usize,
}

impl Drop for Request {
    fn drop(&mut self) {
        self.words.fill(0);
        std::hint::black_box(&self.words);
    }
}

impl Request {
    /// About the device of a name; about none where it is empty.
    pub(super) fn new(command: Command, name: &str, flags: u32) -> rustix::io::Result<Request> {
        if name.len() > NAME_AT_MOST || name.contains('\0') {
            return Err(Errno::NAMETOOLONG);
        }
        let mut request = Request { command, words: vec![0; ROOM / 8], length: HEADER };
        // The oldest of this structure's versions, which every kernel knows.
        request.put(0, &4_u32.to_ne_bytes());
        request.put(DATA_START, &(HEADER as u32).to_ne_bytes());
        // Tables may have keys in them: the kernel overwrites its copy.
        request.put(FLAGS, &(flags | SECURE).to_ne_bytes());
        request.put(NAME, name.as_bytes());
        Ok(request)
    }

    /// Gives a new device its UUID.
    pub(super) fn uuid(&mut self, uuid: &str) {
        self.put(UUID, uuid.as_bytes());
    }

    /// Adds a table.
    pub(super) fn table(&mut self, targets: &[Target]) {
        for target in targets {
            let at = self.length;
            let parameters = target.parameters.as_bytes();
            let next = (SPEC + parameters.len() + 1).next_multiple_of(8);
            self.reserve(at + next);
            self.put(at, &target.start.to_ne_bytes());
            self.put(at + 8, &target.length.to_ne_bytes());
            self.put(at + 20, &(next as u32).to_ne_bytes());
            self.put(at + 24, target.kind.as_bytes().get(..15).unwrap_or(target.kind.as_bytes()));
            self.put(at + SPEC, parameters);
            self.length = at + next;
        }
        self.put(TARGETS, &(targets.len() as u32).to_ne_bytes());
    }

    /// Adds a message to the target that has the device's first sector.
    pub(super) fn message(&mut self, text: &str) {
        let at = self.length;
        self.reserve(at + 8 + text.len() + 1);
        self.put(at + 8, text.as_bytes());
        self.length = at + 8 + text.len() + 1;
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the words' own memory, every byte of which is initialized.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.words.len() * 8) }
    }

    fn put(&mut self, at: usize, what: &[u8]) {
        // SAFETY: the words' own memory; any bytes are words.
        let bytes = unsafe {
            std::slice::from_raw_parts_mut(self.words.as_mut_ptr().cast::<u8>(), self.words.len() * 8)
        };
        if let Some(place) = bytes.get_mut(at..at + what.len()) {
            place.copy_from_slice(what);
        }
    }

    /// Makes room for so many bytes, and leaves no copy of those that were there.
    fn reserve(&mut self, bytes: usize) {
        if bytes > self.words.len() * 8 {
            let mut larger = vec![0; bytes.next_multiple_of(ROOM) / 8];
            larger[..self.words.len()].copy_from_slice(&self.words);
            self.words.fill(0);
            std::hint::black_box(&self.words);
            self.words = larger;
        }
    }

    /// Asks the kernel, with more room where its answer needs it.
    pub(super) fn ask(&mut self, control: &File) -> rustix::io::Result<()> {
        loop {
            let size = self.words.len() * 8;
            self.put(DATA_SIZE, &(size as u32).to_ne_bytes());
            let flags = self.number(FLAGS);
            self.ioctl(control)?;
            if self.number(FLAGS) & BUFFER_FULL == 0 {
                return Ok(());
            }
            if size >= MOST {
                return Err(Errno::MSGSIZE);
            }
            self.reserve(size * 4);
            self.put(DATA_START, &(HEADER as u32).to_ne_bytes());
            self.put(FLAGS, &flags.to_ne_bytes());
            // The answer names the device in all ways that there are, and a question may in one only: by its name.
            self.put(NUMBER, &[0; 8]);
            self.put(UUID, &[0; NAME_AT_MOST + 2]);
        }
    }

    fn ioctl(&mut self, control: &File) -> rustix::io::Result<()> {
        use std::os::fd::AsRawFd as _;
        let number = opcode::read_write::<[u8; HEADER]>(0xfd, self.command as u8);
        // SAFETY: the structure says how many bytes there are behind it, which are the words' own; live for the call.
        let rc = unsafe { libc::ioctl(control.as_raw_fd(), number as _, self.words.as_mut_ptr()) };
        if rc < 0 { Err(crate::process::last_errno()) } else { Ok(()) }
    }

    fn number(&self, at: usize) -> u32 {
        read(self.bytes(), at).map_or(0, u32::from_ne_bytes)
    }

    pub(super) fn version(&self) -> (u32, u32, u32) {
        (self.number(0), self.number(4), self.number(8))
    }

    pub(super) fn flags(&self) -> u32 {
        self.number(FLAGS)
    }

    pub(super) fn opened(&self) -> u32 {
        self.number(OPENED)
    }

    /// The device's minor number.
    pub(super) fn minor(&self) -> u32 {
        let number = read(self.bytes(), NUMBER).map_or(0, u64::from_ne_bytes) as u32;
        number & 0xff | (number >> 12) & 0xf_ff00
    }

    /// The device's major number.
    pub(super) fn major(&self) -> u32 {
        (read(self.bytes(), NUMBER).map_or(0, u64::from_ne_bytes) as u32 >> 8) & 0xfff
    }

    fn answer(&self) -> &[u8] {
        self.bytes().get(self.number(DATA_START) as usize..).unwrap_or_default()
    }

    /// What a table or its status says.
    pub(super) fn targets(&self) -> Vec<Target> {
        let (answer, mut at, mut found) = (self.answer(), 0, Vec::new());
        for _ in 0..self.number(TARGETS) {
            let (Some(start), Some(length), Some(next)) =
                (read(answer, at), read(answer, at + 8), read(answer, at + 20).map(u32::from_ne_bytes))
            else {
                break;
            };
            found.push(Target {
                start: u64::from_ne_bytes(start),
                length: u64::from_ne_bytes(length),
                kind: text(answer.get(at + 24..at + SPEC).unwrap_or_default()),
                parameters: text(answer.get(at + SPEC..).unwrap_or_default()),
            });
            // Counted from the answer's beginning, unlike in a request.
            at = next as usize;
        }
        found
    }

    /// The names of a list of devices.
    pub(super) fn names(&self) -> Vec<String> {
        let (answer, mut at, mut found) = (self.answer(), 0, Vec::new());
        while let (Some(number), Some(next)) = (read(answer, at), read(answer, at + 8)) {
            if u64::from_ne_bytes(number) == 0 {
                break;
            }
            found.push(text(answer.get(at + 12..).unwrap_or_default()));
            match u32::from_ne_bytes(next) {
                0 => break,
                next => at += next as usize,
            }
        }
        found
    }
}

fn read<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// What is before the first NUL.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_laid_out_as_the_kernel_reads_it() {
        let target = |start, parameters: &str| Target {
            start,
            length: 8,
            kind: "linear".into(),
            parameters: parameters.into(),
        };
        let mut request = Request::new(Command::Load, "a", READ_ONLY).unwrap();
        request.table(&[target(0, "7:0 0"), target(8, &"x".repeat(20_000))]);
        assert_eq!(request.length % 8, 0);
        let bytes = request.bytes();
        assert_eq!(read(bytes, DATA_START).map(u32::from_ne_bytes), Some(312));
        assert_eq!(read(bytes, TARGETS).map(u32::from_ne_bytes), Some(2));
        assert_eq!(read(bytes, HEADER + 20).map(u32::from_ne_bytes), Some(48));
        assert_eq!(&bytes[HEADER + 24..HEADER + 31], b"linear\0");
        assert_eq!(&bytes[HEADER + SPEC..HEADER + SPEC + 6], b"7:0 0\0");
        let second = HEADER + 48;
        assert_eq!(read(bytes, second).map(u64::from_ne_bytes), Some(8));
        assert_eq!(bytes[second + SPEC + 19_999], b'x');
        assert_eq!(request.number(FLAGS), READ_ONLY | SECURE);
        assert!(Request::new(Command::Load, &"x".repeat(128), 0).is_err());
    }
}
