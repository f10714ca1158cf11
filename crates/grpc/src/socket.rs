//! Sockets that others find by their path.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, fstat, lstat, openat};
use tokio::net::{UnixListener, UnixStream};

use crate::Failure;

/// The path of a socket that this process listens on. It goes with this, unless it is somebody else's by then.
#[derive(Debug)]
pub struct Bound {
    path: PathBuf,
    /// The file: while it is held, no other has its inode's number.
    file: OwnedFd,
}

impl Drop for Bound {
    fn drop(&mut self) {
        let (ours, there) = (fstat(&self.file), lstat(&self.path));
        if ours.is_ok_and(|ours| there.is_ok_and(|t| (t.st_dev, t.st_ino) == (ours.st_dev, ours.st_ino))) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens at `path`, which root alone may connect to, in place of a process that was killed there. `taken` is what to say
/// if one that lives is there.
///
/// # Errors
/// Something else is at `path`, somebody serves there, or the machine refuses it.
pub async fn listen(path: &Path, taken: &str) -> Result<(UnixListener, Bound), Failure> {
    let failed = |act: &str, e: &io::Error| {
        Failure::internal(format!("cannot {act} the socket {}: {e}", path.display()))
    };
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            make_above(path).map_err(|e| failed("make a directory for", &e))?
        }
        Err(e) => return Err(failed("look at", &e)),
        Ok(there) if !there.file_type().is_socket() => {
            let hint = "move it away, or give another path";
            return Err(Failure::exists(format!("{} is there, and is no socket: {hint}", path.display())));
        }
        Ok(_) if is_served(path).await.map_err(|e| failed("connect to", &e))? => {
            return Err(Failure::exists(taken));
        }
        Ok(_) => match fs::remove_file(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(failed("replace", &e)),
            _ => {}
        },
    }
    let listener = UnixListener::bind(path).map_err(|e| failed("listen on", &e))?;
    let file = openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    let bound = Bound { path: path.to_owned(), file: file.map_err(|e| failed("look at", &e.into()))? };
    // Whoever may connect may do everything.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(|e| failed("protect", &e))?;
    Ok((listener, bound))
}

/// Makes the directory of a socket and those above it, 0700.
fn make_above(path: &Path) -> io::Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)
}

/// Whether somebody listens at `path`.
async fn is_served(path: &Path) -> io::Result<bool> {
    match UnixStream::connect(path).await {
        // A child that has not come to be its program yet holds the socket of a process that was killed: nobody will
        // answer. The kernel tells who called `listen`; another PID namespace's is 0.
        Ok(stream) => {
            let listener = stream.peer_cred()?.pid().filter(|&pid| pid > 0);
            Ok(listener.is_none_or(|pid| kernel::process::start_time(pid).is_ok()))
        }
        // Its queue is full.
        Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(true),
        Err(e) if matches!(e.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    #[tokio::test]
    async fn one_that_is_served_is_left_to_who_serves_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.sock");
        let first = listen(&path, "taken").await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let error = listen(&path, "taken").await.unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (Code::AlreadyExists, "taken"));
        drop(first);
        // One that was killed leaves its socket.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        listen(&path, "taken").await.unwrap();
    }

    #[tokio::test]
    async fn one_whose_queue_is_full_is_served_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let kind = rustix::net::SocketType::STREAM;
        let busy = rustix::net::socket(rustix::net::AddressFamily::UNIX, kind, None).unwrap();
        rustix::net::bind(&busy, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&busy, 0).unwrap();
        let _waiting = std::os::unix::net::UnixStream::connect(&path).unwrap();
        assert_eq!(listen(&path, "taken").await.unwrap_err().message, "taken");
    }

    #[tokio::test]
    async fn what_is_no_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, "precious").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for path in [&file, &link, &dir.path().to_owned()] {
            assert!(listen(path, "taken").await.unwrap_err().message.contains("no socket"));
        }
        assert_eq!(fs::read_to_string(&link).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_path_goes_with_its_socket_and_not_with_anothers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(listen(&path, "taken").await.unwrap());
        assert!(!path.exists());
        let (listener, bound) = listen(&path, "taken").await.unwrap();
        drop(listener);
        let next = listen(&path, "taken").await.unwrap();
        drop(bound);
        assert!(path.exists(), "it is the next one's");
        drop(next);
        assert!(!path.exists());
    }
}
