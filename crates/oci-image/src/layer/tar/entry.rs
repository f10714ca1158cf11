/// What an entry makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    #[default]
    File,
    /// Another name of an earlier file, `Entry::link`.
    HardLink,
    /// A symbolic link to `Entry::link`.
    Symlink,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// A time since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Whole seconds, negative before 1970.
    pub seconds: i64,
    /// Nanoseconds on top, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// A run of data in a sparse file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where in the file it goes.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}

/// One entry's header, extensions applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its name, as it stands in the archive.
    pub path: Vec<u8>,
    /// What it links to, for the two kinds of links.
    pub link: Vec<u8>,
    /// What it makes.
    pub kind: Kind,
    /// Permission bits, with set-id and sticky bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// How many bytes of data follow in the archive; 0 for all but files.
    pub size: u64,
    /// When it was last changed.
    pub mtime: Time,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes: full names and values.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// For a sparse file its full size and where the data goes.
    pub sparse: Option<(u64, Vec<Span>)>,
}

impl Entry {
    /// Empties it for the next header, keeping its buffers.
    pub(super) fn clear(&mut self) {
        self.path.clear();
        self.link.clear();
        self.xattrs.clear();
        self.sparse = None;
        self.kind = Kind::File;
        (self.mode, self.uid, self.gid, self.size) = (0, 0, 0, 0);
        self.mtime = Time::default();
        self.device = (0, 0);
    }
}
