use std::fs::File;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::socket::{Protocol, Socket};
use crate::{Act as _, Result, namespace};

/// How many idle ones of a kind are kept: as many as threads are at work most of the time.
const IDLE: usize = 8;

/// Sockets that are used again: opening and closing one costs more than most of what is said over it, and closing one of
/// netfilter waits for what others have changed.
///
/// A socket belongs to the network namespace it was opened in. So whoever keeps sockets uses them from threads in one
/// network namespace.
#[derive(Debug)]
pub struct Sockets {
    route: Mutex<Vec<Socket>>,
    netfilter: Mutex<Vec<Socket>>,
    namespace: Mutex<Vec<File>>,
    /// The network namespace that all of them are of, once somebody has left it.
    home: OnceLock<File>,
    idle: usize,
}

impl Default for Sockets {
    fn default() -> Self {
        Self::keeping(IDLE)
    }
}

impl Sockets {
    /// Keeps none.
    pub const fn none_kept() -> Self {
        Self::keeping(0)
    }

    const fn keeping(idle: usize) -> Self {
        Self {
            route: Mutex::new(Vec::new()),
            netfilter: Mutex::new(Vec::new()),
            namespace: Mutex::new(Vec::new()),
            home: OnceLock::new(),
            idle,
        }
    }

    /// One of [`Protocol::Route`], that was used before or opened in the caller's network namespace.
    pub fn route(&self) -> Result<Kept<'_, Socket>> {
        self.take(&self.route, || Socket::open(Protocol::Route))
    }

    /// One of [`Protocol::Netfilter`], likewise.
    pub fn netfilter(&self) -> Result<Kept<'_, Socket>> {
        self.take(&self.netfilter, || Socket::open(Protocol::Netfilter))
    }

    /// The file of the network namespace itself, which nobody else has open: to be locked.
    pub fn namespace(&self) -> Result<Kept<'_, File>> {
        self.take(&self.namespace, own_namespace)
    }

    /// A socket inside another network namespace. The calling thread goes there and comes back: where a thread of its own
    /// ([`Socket::open_in`]) has to be made, or woken and waited for, this is two system calls.
    pub fn open_in(&self, protocol: Protocol, netns: &File) -> Result<Socket> {
        let home = match self.home.get() {
            Some(home) => home,
            None => {
                let own = own_namespace()?;
                self.home.get_or_init(|| own)
            }
        };
        namespace::visit(netns, home, || Socket::open(protocol))
    }

    fn take<'a, T>(&self, home: &'a Mutex<Vec<T>>, open: impl FnOnce() -> Result<T>) -> Result<Kept<'a, T>> {
        let idle = home.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let kept = idle.map_or_else(open, Ok)?;
        Ok(Kept { kept: Some(kept), home, idle: self.idle })
    }
}

fn own_namespace() -> Result<File> {
    let path = "/proc/thread-self/ns/net";
    File::open(path).act("open", || path)
}

/// One that goes back to where it was taken.
#[derive(Debug)]
pub struct Kept<'a, T> {
    /// Taken by [`Drop`] alone.
    kept: Option<T>,
    home: &'a Mutex<Vec<T>>,
    idle: usize,
}

impl<T> Deref for Kept<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.kept.as_ref().expect("not dropped")
    }
}

impl<T> DerefMut for Kept<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.kept.as_mut().expect("not dropped")
    }
}

impl<T> Drop for Kept<'_, T> {
    fn drop(&mut self) {
        let mut home = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        if home.len() < self.idle {
            home.extend(self.kept.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::link_by_name;

    /// Whoever goes there comes back, and the sockets are where they were opened.
    #[test]
    fn sockets_elsewhere_and_at_home() {
        namespace::in_new_netns(|| {
            let sockets = Sockets::default();
            let home = sockets.route()?.netns_cookie();
            let mut seen = std::collections::BTreeSet::from([home]);
            for _ in 0..4 {
                let netns = namespace::in_new_netns(|| {
                    File::open("/proc/thread-self/ns/net").act("open", || "a namespace")
                })?;
                let mut inside = sockets.open_in(Protocol::Route, &netns)?;
                assert!(seen.insert(inside.netns_cookie()), "{seen:?}");
                assert!(link_by_name(&mut inside, "lo")?.is_some_and(|lo| !lo.is_up()));
                assert_eq!(sockets.route()?.netns_cookie(), home);
                assert_eq!(Socket::open(Protocol::Netfilter)?.netns_cookie(), home);
            }
            // A file that is no namespace is refused, and the next one is served.
            let none = File::open("/proc/self/stat").act("open", || "a file")?;
            assert!(sockets.open_in(Protocol::Route, &none).is_err());
            let own = File::open("/proc/thread-self/ns/net").act("open", || "a namespace")?;
            assert_eq!(sockets.open_in(Protocol::Route, &own)?.netns_cookie(), home);
            Ok(())
        })
        .unwrap();
    }
}
