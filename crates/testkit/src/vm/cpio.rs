//! An archive as the kernel unpacks it into its first root (cpio, "newc"; Documentation/driver-api/early-userspace).

use std::io::{self, Write};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// Writes entries; directories must come before what is in them.
#[derive(Debug)]
pub(crate) struct Archive<W> {
    out: W,
    entries: u32,
}

impl<W: Write> Archive<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, entries: 0 }
    }

    pub(crate) fn directory(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, DIRECTORY | 0o755, &[])
    }

    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.entry(path, REGULAR | mode, content)
    }

    pub(crate) fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.entry(path, LINK | 0o777, target.as_bytes())
    }

    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.entries = 0;
        self.entry("TRAILER!!!", 0, &[])?;
        Ok(self.out)
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.entries += 1;
        let size = u32::try_from(content.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let name = u32::try_from(path.len() + 1).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // ino, mode, uid, gid, nlink, mtime, size, device (2), special device (2), length of the name, checksum
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name, 0];
        write!(self.out, "070701")?;
        for field in fields {
            write!(self.out, "{field:08x}")?;
        }
        self.out.write_all(path.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(110 + path.len() + 1)?;
        self.out.write_all(content)?;
        self.pad(content.len())
    }

    fn pad(&mut self, written: usize) -> io::Result<()> {
        let zeros = [0_u8; 4];
        self.out.write_all(zeros.get(..(4 - written % 4) % 4).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_as_the_kernel_reads_them() {
        let mut archive = Archive::new(Vec::new());
        archive.directory("etc").unwrap();
        archive.file("etc/odd", 0o644, b"12345").unwrap();
        archive.link("link", "etc/odd").unwrap();
        let text = String::from_utf8(archive.finish().unwrap()).unwrap();
        let zero = "00000000";
        let directory =
            format!("07070100000001000041ed{zero}{zero}00000001{}00000004{zero}etc\0\0\0", zero.repeat(6));
        assert!(text.starts_with(&directory), "{text:?}");
        let file = format!(
            "000081a4{zero}{zero}00000001{zero}00000005{}00000008{zero}etc/odd\0\0\012345\0\0\0",
            zero.repeat(4)
        );
        assert!(text.contains(&file), "{text:?}");
        assert!(text.contains("link\0\0etc/odd\x00070701"), "{text:?}");
        assert!(text.contains("TRAILER!!!\0") && text.len().is_multiple_of(4));
    }
}
