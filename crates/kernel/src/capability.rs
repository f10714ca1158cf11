//! Capabilities: names and numbers, and the five sets of a thread.
//!
//! What a container asks for and the machine withholds is no error: [`Sets::drop_bounding`] and [`Sets::apply`]
//! grant what they can and return the rest. They run between clone and exec, so they neither allocate nor fail
//! with anything but an errno.

use std::fmt;
use std::ops::{BitAnd, BitAndAssign, BitOr, BitOrAssign, Not};

use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_ambient_set, capability_is_in_bounding_set,
    clear_ambient_capability_set, configure_capability_in_ambient_set, remove_capability_from_bounding_set,
    set_capabilities, set_keep_capabilities, set_thread_res_gid, set_thread_res_uid,
};

use crate::{Act, Result};

/// Declares the capabilities in the order of their numbers.
macro_rules! capabilities {
    ($($variant:ident $name:literal,)*) => {
        /// A capability, by its number in the kernel.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[expect(missing_docs, reason = "capabilities(7) describes them")]
        pub enum Capability { $($variant,)* }

        impl Capability {
            /// All that this program knows, in the order of their numbers.
            pub const ALL: [Self; 41] = [$(Self::$variant,)*];

            /// The name, as in `CAP_CHOWN`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

capabilities! {
    Chown "CAP_CHOWN",
    DacOverride "CAP_DAC_OVERRIDE",
    DacReadSearch "CAP_DAC_READ_SEARCH",
    Fowner "CAP_FOWNER",
    Fsetid "CAP_FSETID",
    Kill "CAP_KILL",
    Setgid "CAP_SETGID",
    Setuid "CAP_SETUID",
    Setpcap "CAP_SETPCAP",
    LinuxImmutable "CAP_LINUX_IMMUTABLE",
    NetBindService "CAP_NET_BIND_SERVICE",
    NetBroadcast "CAP_NET_BROADCAST",
    NetAdmin "CAP_NET_ADMIN",
    NetRaw "CAP_NET_RAW",
    IpcLock "CAP_IPC_LOCK",
    IpcOwner "CAP_IPC_OWNER",
    SysModule "CAP_SYS_MODULE",
    SysRawio "CAP_SYS_RAWIO",
    SysChroot "CAP_SYS_CHROOT",
    SysPtrace "CAP_SYS_PTRACE",
    SysPacct "CAP_SYS_PACCT",
    SysAdmin "CAP_SYS_ADMIN",
    SysBoot "CAP_SYS_BOOT",
    SysNice "CAP_SYS_NICE",
    SysResource "CAP_SYS_RESOURCE",
    SysTime "CAP_SYS_TIME",
    SysTtyConfig "CAP_SYS_TTY_CONFIG",
    Mknod "CAP_MKNOD",
    Lease "CAP_LEASE",
    AuditWrite "CAP_AUDIT_WRITE",
    AuditControl "CAP_AUDIT_CONTROL",
    Setfcap "CAP_SETFCAP",
    MacOverride "CAP_MAC_OVERRIDE",
    MacAdmin "CAP_MAC_ADMIN",
    Syslog "CAP_SYSLOG",
    WakeAlarm "CAP_WAKE_ALARM",
    BlockSuspend "CAP_BLOCK_SUSPEND",
    AuditRead "CAP_AUDIT_READ",
    Perfmon "CAP_PERFMON",
    Bpf "CAP_BPF",
    CheckpointRestore "CAP_CHECKPOINT_RESTORE",
}

impl Capability {
    /// The capability of a name, exactly as the kernel writes it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|capability| capability.name() == name)
    }

    /// The capability of a name as people write it: in any case, `CAP_` or not.
    ///
    /// ```
    /// use kernel::capability::Capability;
    /// assert_eq!(Capability::from_loose_name("net_admin"), Some(Capability::NetAdmin));
    /// ```
    pub fn from_loose_name(name: &str) -> Option<Self> {
        let prefixed = name.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("CAP_"));
        let name = if prefixed { &name[4..] } else { name };
        Self::ALL.into_iter().find(|capability| capability.name()[4..].eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of capabilities: a word of the kernel's, so it may hold bits that this program has no name for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CapSet(u64);

impl CapSet {
    /// None.
    pub const EMPTY: Self = Self(0);
    /// All that this program knows.
    pub const ALL: Self = Self((1 << Capability::ALL.len()) - 1);

    /// These.
    pub const fn of(capabilities: &[Capability]) -> Self {
        let (mut bits, mut i) = (0, 0);
        while i < capabilities.len() {
            bits |= 1 << capabilities[i] as u8;
            i += 1;
        }
        Self(bits)
    }

    /// The kernel's word.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The kernel's word.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Is it in?
    pub const fn contains(self, capability: Capability) -> bool {
        self.0 >> capability as u8 & 1 == 1
    }

    /// Is nothing in?
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Puts one in.
    pub fn insert(&mut self, capability: Capability) {
        self.0 |= 1 << capability as u8;
    }

    /// Takes one out.
    pub fn remove(&mut self, capability: Capability) {
        self.0 &= !(1 << capability as u8);
    }

    /// Those with a name, in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::ALL.into_iter().filter(move |capability| self.contains(*capability))
    }

    /// The set of names, and the names that no capability has.
    pub fn from_names<'n>(names: impl IntoIterator<Item = &'n str>) -> (Self, Vec<&'n str>) {
        let mut set = Self::EMPTY;
        let mut unknown = Vec::new();
        for name in names {
            match Capability::from_name(name) {
                Some(capability) => set.insert(capability),
                None => unknown.push(name),
            }
        }
        (set, unknown)
    }

    /// The names.
    pub fn names(self) -> Vec<String> {
        self.iter().map(|capability| capability.name().to_owned()).collect()
    }
}

impl BitAnd for CapSet {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for CapSet {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Not for CapSet {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0)
    }
}

impl BitAndAssign for CapSet {
    fn bitand_assign(&mut self, other: Self) {
        self.0 &= other.0;
    }
}

impl BitOrAssign for CapSet {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Display for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for capability in self.iter() {
            f.write_str(if first { "" } else { ", " })?;
            f.write_str(capability.name())?;
            first = false;
        }
        if first { f.write_str("none") } else { Ok(()) }
    }
}

/// The capabilities that the running kernel has: those of its bounding sets, granted or not.
///
/// Asked of prctl(2) and not of `/proc/sys/kernel/cap_last_cap`, which an empty root has not.
pub fn supported() -> CapSet {
    bounding().0
}

/// The five sets of a thread; as the result of an act, what was asked for and not granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    /// What execve may ever give.
    pub bounding: CapSet,
    /// What the kernel checks.
    pub effective: CapSet,
    /// What survives an execve of a file that has it too.
    pub inheritable: CapSet,
    /// What may become effective.
    pub permitted: CapSet,
    /// What survives any execve.
    pub ambient: CapSet,
}

impl Sets {
    /// The calling thread's.
    ///
    /// # Errors
    /// The kernel's, which has no reason for one.
    pub fn current() -> Result<Self> {
        let sets = capabilities(None).act("read", || "this thread's capabilities")?;
        let ambient = |c: &Capability| capability_is_in_ambient_set(bit(*c as u32)).unwrap_or(false);
        Ok(Self {
            bounding: bounding().1,
            effective: CapSet(sets.effective.bits()),
            inheritable: CapSet(sets.inheritable.bits()),
            permitted: CapSet(sets.permitted.bits()),
            ambient: Capability::ALL.into_iter().filter(ambient).collect(),
        })
    }

    /// Is nothing in any of them?
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// First half, before the user changes: the bounding set shrinks to this one, and the permitted set will
    /// survive the change of user. Returns what the bounding set lacked already.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SETPCAP`, where something has to be dropped.
    pub fn drop_bounding(&self) -> Result<CapSet, Errno> {
        let mut lacking = CapSet::EMPTY;
        for number in 0..u64::BITS {
            let wanted = self.bounding.0 >> number & 1 == 1;
            let held = || capability_is_in_bounding_set(bit(number)).unwrap_or(false);
            if wanted {
                lacking.0 |= u64::from(!held()) << number;
                continue;
            }
            match remove_capability_from_bounding_set(bit(number)) {
                Ok(()) => {}
                // Unknown to this kernel, and so are the rest.
                Err(Errno::INVAL) => {
                    lacking.0 |= self.bounding.0 & u64::MAX << number;
                    break;
                }
                // Without CAP_SETPCAP what is gone already is no error.
                Err(Errno::PERM) if !held() => {}
                Err(e) => return Err(e),
            }
        }
        set_keep_capabilities(true)?;
        Ok(lacking)
    }

    /// Second half, once the user is the container's: the other four sets become these, as far as the kernel's
    /// rules let them. Returns what they do not; its bounding set is empty.
    ///
    /// # Errors
    /// The kernel's, where it refuses even what its rules allow.
    pub fn apply(&self) -> Result<Self, Errno> {
        let now = capabilities(None)?;
        let (held, inherited) = (CapSet(now.permitted.bits()), CapSet(now.inheritable.bits()));
        let permitted = self.permitted & held;
        let effective = self.effective & permitted;
        // capabilities(7), "programmatically adjusting capability sets".
        let setpcap = CapSet(now.effective.bits()).contains(Capability::Setpcap);
        let inheritable = if self.inheritable.is_empty() {
            CapSet::EMPTY
        } else {
            self.inheritable & (inherited | (bounding().1 & if setpcap { CapSet(u64::MAX) } else { held }))
        };
        set_capabilities(
            None,
            CapabilitySets {
                effective: CapabilitySet::from_bits_retain(effective.0),
                permitted: CapabilitySet::from_bits_retain(permitted.0),
                inheritable: CapabilitySet::from_bits_retain(inheritable.0),
            },
        )?;
        set_keep_capabilities(false)?;
        let ambient = raise_ambient(self.ambient, permitted & inheritable)?;
        Ok(Self {
            bounding: CapSet::EMPTY,
            effective: self.effective & !effective,
            inheritable: self.inheritable & !inheritable,
            permitted: self.permitted & !permitted,
            ambient: self.ambient & !ambient,
        })
    }
}

/// Runs `work` with another user's ids in effect, and the capabilities that this thread has now: what it makes belongs
/// to that user, and what asks for the user's id and no capability is content.
///
/// For a thread whose real user is root; others of the process keep their ids.
///
/// # Errors
/// The kernel's, which has no reason for one but a missing `CAP_SETUID` or `CAP_SETGID`.
pub fn as_user<T>(uid: u32, gid: u32, work: impl FnOnce() -> T) -> Result<T> {
    let own = capabilities(None).act("read", || "this thread's capabilities")?;
    let become_user = |uid: u32, gid: u32| {
        set_thread_res_gid(None, Gid::from_raw(gid), None)?;
        set_thread_res_uid(None, Uid::from_raw(uid), None)?;
        // Of another user than root none is in effect at first.
        set_capabilities(None, own)
    };
    let (own_uid, own_gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    become_user(uid, gid).act("become", || format!("user {uid}, group {gid}"))?;
    let done = work();
    become_user(own_uid, own_gid).act("become", || format!("user {own_uid}, group {own_gid} again"))?;
    Ok(done)
}

/// Makes the ambient set the wanted one as far as it may be; what it is then.
fn raise_ambient(wanted: CapSet, may: CapSet) -> Result<CapSet, Errno> {
    match clear_ambient_capability_set() {
        // Before Linux 4.3 there was none.
        Err(Errno::INVAL) => return Ok(CapSet::EMPTY),
        other => other?,
    }
    let mut raised = CapSet::EMPTY;
    for number in 0..u64::BITS {
        let one = CapSet(1 << number);
        // SECBIT_NO_CAP_AMBIENT_RAISE forbids it: then it is not granted.
        if !(wanted & may & one).is_empty() && configure_capability_in_ambient_set(bit(number), true).is_ok()
        {
            raised |= one;
        }
    }
    Ok(raised)
}

/// The capabilities the kernel knows, and the thread's bounding set.
fn bounding() -> (CapSet, CapSet) {
    let (mut known, mut held) = (0, 0);
    for number in 0..u64::BITS {
        match capability_is_in_bounding_set(bit(number)) {
            Ok(there) => (known, held) = (known | 1 << number, held | u64::from(there) << number),
            Err(_) => break,
        }
    }
    (CapSet(known), CapSet(held))
}

fn bit(number: u32) -> CapabilitySet {
    CapabilitySet::from_bits_retain(1 << number)
}

impl FromIterator<Capability> for CapSet {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        let mut set = Self::EMPTY;
        capabilities.into_iter().for_each(|capability| set.insert(capability));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        for (number, capability) in Capability::ALL.into_iter().enumerate() {
            assert_eq!(capability as usize, number);
            assert_eq!(Capability::from_name(capability.name()), Some(capability));
        }
        assert_eq!(Capability::SysAdmin as u8, 21);
        assert_eq!(Capability::CheckpointRestore as u8, 40);
        assert_eq!(CapSet::ALL.bits(), 0x1ff_ffff_ffff);
    }

    #[test]
    fn names_as_people_write_them() {
        assert_eq!(Capability::from_loose_name("cap_sys_admin"), Some(Capability::SysAdmin));
        assert_eq!(Capability::from_loose_name("NET_RAW"), Some(Capability::NetRaw));
        assert_eq!(Capability::from_loose_name("é"), None);
        assert_eq!(Capability::from_name("chown"), None);
        let (set, unknown) = CapSet::from_names(["CAP_KILL", "CAP_NEW"]);
        assert_eq!((set.to_string(), unknown), ("CAP_KILL".to_owned(), vec!["CAP_NEW"]));
    }

    #[test]
    fn this_kernel_has_the_first_38() {
        assert_eq!(supported().bits() & 0x3f_ffff_ffff, 0x3f_ffff_ffff);
    }

    /// The sets belong to a thread, so a thread that ends gives them up.
    fn in_thread<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(act).join().unwrap()
    }

    #[test]
    fn grants_what_it_can_and_reports_the_rest() {
        let before = Sets::current().unwrap();
        let (kept, lost) = in_thread(move || {
            let two = CapSet::of(&[Capability::Chown, Capability::Kill]);
            let drop = Sets { bounding: two, permitted: two, effective: two, inheritable: two, ambient: two };
            let bounding = drop.drop_bounding();
            let first = drop.apply().unwrap();
            let kept = Sets::current().unwrap();
            assert_eq!(kept.permitted | first.permitted, two);
            // Now more than is left.
            let more = Sets { effective: CapSet::ALL, permitted: CapSet::ALL, ..Sets::default() };
            let lost = more.apply().unwrap();
            (kept, bounding.map(|lacking| (lacking, lost)))
        });
        let two = CapSet::of(&[Capability::Chown, Capability::Kill]) & before.permitted;
        assert_eq!(kept.effective, two);
        match lost {
            Ok((_, lost)) => {
                assert_eq!(lost.permitted, CapSet::ALL & !two);
                assert_eq!(
                    kept.bounding & !CapSet::of(&[Capability::Chown, Capability::Kill]),
                    CapSet::EMPTY
                );
                assert_eq!(kept.ambient, kept.inheritable & two);
            }
            Err(errno) => {
                assert!(
                    !before.effective.contains(Capability::Setpcap),
                    "{errno} though CAP_SETPCAP is held"
                );
            }
        }
        assert_eq!(Sets::current().unwrap(), before, "another thread's sets are its own");
    }
}
