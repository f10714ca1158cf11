//! The block devices of volumes: the thin one, and over it one that cannot be written.
//!
//! They are found by their names, which have the pool's and the volume's number in them. That of a mount is removed as soon as it
//! is mounted: the kernel has it go with its last user, so a killed driver leaves none behind.

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use grpc::{Code, Failure};
use kernel::discard;
use kernel::dm::{self, Info, SECTOR, Target};
use rustix::io::Errno;

use super::number::Thin;
use super::pool::{ThinPool, ensure};
use crate::plugin::backend::crypt::{self, Crypt, there};
use crate::plugin::backend::failed;

/// What the name of a device ends with that cannot be written.
const READ_ONLY: &str = "-ro";
/// How long a mount waits for the device of the one before, whose last user is about to close it.
const LINGERS: Duration = Duration::from_secs(3);

/// Tries again what is busy: a device whose name has gone already may be about to let go of what is below it.
pub(super) fn patiently(act: impl Fn() -> Result<(), kernel::Error>) -> Result<(), kernel::Error> {
    let until = Instant::now() + LINGERS;
    loop {
        match act() {
            Err(e) if e.errno() == Some(Errno::BUSY) && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(2));
            }
            done => return done,
        }
    }
}

impl ThinPool {
    fn thin_name(&self, thin: &Thin) -> String {
        self.name(thin.number)
    }

    /// The names of all devices that a volume may have, the lowest first.
    fn names(&self, thin: &Thin) -> [String; 2] {
        let name = self.thin_name(thin);
        [name.clone(), name + READ_ONLY]
    }

    /// The devices that a volume has now, the lowest first.
    pub(super) fn devices(&self, thin: &Thin) -> Result<Vec<(String, Info)>, Failure> {
        let mut found = Vec::new();
        for name in self.names(thin) {
            if let Some(info) = dm::info(&name)? {
                found.push((name, info));
            }
        }
        Ok(found)
    }

    /// The devices of a volume that is encrypted.
    pub(super) fn crypt(&self, thin: &Thin) -> Crypt {
        Crypt(self.thin_name(thin))
    }

    fn thin_target(&self, thin: &Thin) -> Result<Target, Failure> {
        let name = self.name("pool");
        let pool =
            dm::info(&name)?.ok_or_else(|| Failure::precondition(format!("the device {name} is gone")))?;
        Ok(Target {
            start: 0,
            length: thin.bytes / SECTOR,
            kind: "thin".into(),
            parameters: format!("{} {}", pool.name(), thin.number),
        })
    }

    fn over(thin: &Thin, below: &Info) -> Target {
        let parameters = format!("{} 0", below.name());
        Target { start: 0, length: thin.bytes / SECTOR, kind: "linear".into(), parameters }
    }

    /// The device of a volume; the same one if it is there already.
    pub(super) fn attach(&self, thin: &Thin) -> Result<Info, Failure> {
        ensure(&self.thin_name(thin), self.thin_target(thin)?)
    }

    /// The same for who may only read.
    pub(super) fn attach_read_only(&self, thin: &Thin) -> Result<Info, Failure> {
        let below = self.attach(thin)?;
        let name = self.thin_name(thin) + READ_ONLY;
        match dm::info(&name)? {
            Some(info) if info.active => Ok(info),
            there => {
                if there.is_some() {
                    dm::remove(&name, false)?;
                }
                Ok(dm::create(&name, &[Self::over(thin, &below)], true)?)
            }
        }
    }

    /// Gives the devices of a volume back; those in use go with their last user.
    pub(super) fn detach(&self, thin: &Thin) -> Result<(), Failure> {
        self.crypt(thin).close()?;
        self.names(thin).iter().rev().try_for_each(|name| Ok(dm::remove(name, true)?))
    }

    /// Has the devices of a volume be as large as it is.
    pub(super) fn widen(&self, thin: &Thin) -> Result<(), Failure> {
        let mut below: Option<Info> = None;
        for (name, info) in self.devices(thin)? {
            let target = match &below {
                None => self.thin_target(thin)?,
                Some(below) => Self::over(thin, below),
            };
            let widened = dm::load(&name, &[target], info.read_only)
                .and_then(|()| dm::suspend(&name, false))
                .and_then(|()| dm::resume(&name));
            below = there(widened)?;
        }
        self.crypt(thin).widen(thin.bytes)
    }

    /// Waits until a volume has no device any more. Two file systems on it would destroy it.
    pub(super) fn idle(&self, thin: &Thin) -> Result<(), Failure> {
        self.until_none(thin, |_| true)
    }

    /// Waits until those are gone that go with their last user.
    pub(super) fn settled(&self, thin: &Thin) -> Result<(), Failure> {
        self.until_none(thin, |info| info.deferred)
    }

    fn until_none(&self, thin: &Thin, matters: impl Fn(&Info) -> bool) -> Result<(), Failure> {
        let until = Instant::now() + LINGERS;
        loop {
            let found = self.devices(thin)?;
            match found.iter().find(|(_, info)| matters(info)) {
                None => return Ok(()),
                Some((name, info)) if Instant::now() > until => {
                    let hint = "something still has it open from its former use";
                    let message = format!("{} ({name}) is in use: {hint}", info.path().display());
                    return Err(Failure::new(Code::Aborted, message));
                }
                Some(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Has the device below the pool know that nobody needs what a volume has, and shares with nobody.
    pub(super) fn discard(&self, thin: &Thin) -> Result<(), Failure> {
        if !self.health()?.passes_discards {
            return Ok(());
        }
        let path = self.attach(thin)?.path();
        let device = File::options().write(true).open(&path).map_err(|e| failed("open", &path, &e));
        let discarded = device.and_then(|device| Ok(discard::first(&device, thin.bytes)?));
        self.detach(thin)?;
        self.idle(thin)?;
        discarded
    }

    /// Deletes a volume that has no device. One that is not there is deleted.
    pub(super) fn delete(&self, thin: &Thin) -> Result<(), Failure> {
        let text = format!("delete {}", thin.number);
        let deleted = patiently(|| self.message(&text));
        match deleted {
            // It never came to be, or is gone.
            Err(e) if e.errno() == Some(Errno::NODATA) => Ok(()),
            done => Ok(done?),
        }
    }

    /// Where a volume's device is, if it has one.
    pub(super) fn path(&self, thin: &Thin) -> Result<Option<PathBuf>, Failure> {
        Ok(dm::info(&self.thin_name(thin))?.map(|info| info.path()))
    }

    /// Bytes that were written to a volume; none where it has no device.
    pub(super) fn mapped(&self, thin: &Thin) -> Result<Option<u64>, Failure> {
        let Some(status) = there(dm::status(&self.thin_name(thin)))? else { return Ok(None) };
        let words = status.first().map_or("", |target| &target.parameters);
        // Sectors, and the highest of them.
        let sectors: Option<u64> = words.split_whitespace().next().and_then(|word| word.parse().ok());
        sectors.map(|sectors| Some(sectors * SECTOR)).ok_or_else(|| {
            Failure::internal(format!("the device {} says {words:?} of itself", self.thin_name(thin)))
        })
    }

    /// The devices of volumes through which they are written, those first that are over others: what is over one that waits waits for
    /// ever.
    fn upper_first(&self, thins: &[Thin]) -> Result<Vec<(String, Info)>, Failure> {
        let mut found = Vec::new();
        for thin in thins {
            found.extend(
                self.crypt(thin).devices()?.into_iter().filter(|(name, _)| !name.ends_with(READ_ONLY)),
            );
            let name = self.thin_name(thin);
            found.extend(dm::info(&name)?.map(|info| (name, info)));
        }
        Ok(found)
    }

    /// Holds volumes still, those that have devices: file systems on them are frozen, with all that was written to them.
    ///
    /// # Errors
    /// `Aborted` where somebody else has frozen one.
    pub(super) fn still(&self, thins: &[Thin]) -> Result<Still, Failure> {
        let mut still = Still(Vec::new());
        for (name, info) in self.upper_first(thins)? {
            let held = if info.suspended { Ok(()) } else { dm::suspend(&name, true) };
            let held = there(held).map_err(|e| match e.errno() {
                Some(Errno::BUSY) => {
                    Failure::new(Code::Aborted, format!("{name} is frozen by somebody else; try again"))
                }
                _ => e.into(),
            })?;
            still.0.extend(held.map(|()| name));
        }
        Ok(still)
    }

    /// Has a volume go on that a killed driver held still.
    pub(super) fn go_on(&self, thin: &Thin) -> Result<(), Failure> {
        crypt::go_on(&self.devices(thin)?)?;
        crypt::go_on(&self.crypt(thin).devices()?)
    }
}

/// Devices that are held still until this is dropped, or [goes on](Self::go_on).
#[must_use = "they go on where this is dropped"]
pub(super) struct Still(Vec<String>);

impl Still {
    /// Has them go on: all of them, whatever one says.
    pub(super) fn go_on(mut self) -> Result<(), Failure> {
        let done: Vec<_> =
            std::mem::take(&mut self.0).iter().rev().map(|name| there(dm::resume(name))).collect();
        done.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(())
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        for name in self.0.iter().rev() {
            let _told_by_the_next_use = dm::resume(name);
        }
    }
}
