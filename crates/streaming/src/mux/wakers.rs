//! Who waits for the socket to take more.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// A socket remembers one waker for writing, but every stream may wait for it: this one wakes them all, and the driver,
/// which sends what is left of a frame.
#[derive(Default)]
pub(super) struct Wakers {
    driver: Mutex<Option<Waker>>,
    writers: Mutex<Vec<Waker>>,
}

impl Wakers {
    /// A waker for the socket.
    pub(super) fn waker(self: &Arc<Wakers>) -> Waker {
        Waker::from(Arc::clone(self))
    }

    /// To be called before the socket is asked, so that no answer is missed.
    pub(super) fn wait(&self, waker: &Waker) {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        if !writers.iter().any(|known| known.will_wake(waker)) {
            writers.push(waker.clone());
        }
    }

    pub(super) fn set_driver(&self, waker: &Waker) {
        let mut driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *driver {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    pub(super) fn wake_driver(&self) {
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    pub(super) fn wake_writers(&self) {
        let writers = std::mem::take(&mut *self.writers.lock().unwrap_or_else(PoisonError::into_inner));
        writers.into_iter().for_each(Waker::wake);
    }
}

impl Wake for Wakers {
    fn wake(self: Arc<Wakers>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Wakers>) {
        self.wake_writers();
        self.wake_driver();
    }
}
