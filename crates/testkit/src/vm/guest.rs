use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::program::{find, shown, tail};
use crate::{Error, Result};

const STATUS: &str = "sextant-vm: status ";
/// A kernel under KVM says something within this; one that QEMU emulates is not asked.
const PROBE: Duration = Duration::from_secs(6);

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceleration {
    /// The machine's own processor.
    Kvm,
    /// QEMU, some ten times slower, everywhere.
    Emulated,
}

/// A disk of the guest, `/dev/vda` and on.
#[derive(Debug, Clone)]
pub enum Disk {
    /// An image whose changes are forgotten at the end.
    Scratch(PathBuf),
    /// An image that is written.
    Raw(PathBuf),
    /// An image that is written, with every write and flush logged (dm-log-writes' format): see [`crate::power`].
    Logged {
        /// The image.
        image: PathBuf,
        /// The log.
        log: PathBuf,
    },
}

/// A virtual machine to be started.
#[derive(Debug, Clone)]
pub struct Guest {
    /// The kernel's image.
    pub kernel: PathBuf,
    /// Its first root.
    pub initramfs: PathBuf,
    /// Added to the kernel's command line.
    pub append: String,
    /// In MiB.
    pub memory: u32,
    /// How many processors.
    pub processors: u32,
    /// What executes it.
    pub acceleration: Acceleration,
    /// `/dev/vda` and on.
    pub disks: Vec<Disk>,
    /// Whether to pass on what the guest says while it runs.
    pub echo: bool,
    /// Whether it may boot anew, with its disks as they were left; else that is its end, as a panic is.
    pub reboots: bool,
}

impl Guest {
    /// A guest with 1 GiB, two processors and no disk.
    pub fn new(kernel: &super::Kernel, initramfs: &Path) -> Self {
        Self {
            kernel: kernel.image.clone(),
            initramfs: initramfs.to_owned(),
            append: String::new(),
            memory: 1024,
            processors: 2,
            acceleration: Acceleration::Emulated,
            disks: Vec::new(),
            echo: false,
            reboots: false,
        }
    }

    /// Whether KVM can be used here: /dev/kvm may be there and still run no kernel (nested without hardware), so this
    /// boots one for some seconds.
    pub fn probe(&self) -> Acceleration {
        let usable = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
        if !usable {
            return Acceleration::Emulated;
        }
        let guest = Self { acceleration: Acceleration::Kvm, echo: false, disks: Vec::new(), ..self.clone() };
        let heard = guest.start().and_then(|running| running.wait_for("Linux version", PROBE));
        if heard.is_ok() { Acceleration::Kvm } else { Acceleration::Emulated }
    }

    /// Runs the guest until it powers off; what it said and the status it gave.
    pub fn run(&self, limit: Duration) -> Result<(String, i32)> {
        let mut running = self.start()?;
        running.end(limit)?;
        let said = running.said();
        status(&said).map(|status| (said.clone(), status)).ok_or_else(|| Error::Fail {
            command: "the guest".into(),
            status: "powered off without a status".into(),
            output: tail(&said, 40),
        })
    }

    /// Starts the guest.
    pub fn start(&self) -> Result<Running> {
        // A harness that is killed leaves no guest behind.
        let mut command = Command::new(find("setpriv")?);
        command.args(["--pdeathsig", "KILL"]).arg(find("qemu-system-x86_64")?);
        match self.acceleration {
            Acceleration::Kvm => command.args(["-accel", "kvm", "-cpu", "host"]),
            // With a thread for each processor, Debian's QEMU 7.2 now and then runs half of an instruction that the kernel is
            // rewriting on the other one (a static key), and the guest panics.
            Acceleration::Emulated => command.args(["-accel", "tcg,thread=single"]),
        };
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio"]);
        if !self.reboots {
            command.arg("-no-reboot");
        }
        command.args(["-m", &self.memory.to_string(), "-smp", &self.processors.to_string()]);
        command.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(&self.initramfs);
        // On a busy machine an emulated timer may not tick in the moment for which the kernel looks; what it then tries instead hangs.
        let loud = if self.acceleration == Acceleration::Kvm { "" } else { " quiet no_timer_check" };
        command.arg("-append").arg(format!("console=ttyS0 panic=-1{loud} {}", self.append));
        // Without it an emulated processor's kernel waits for ever for its first random number.
        command.args(["-device", "virtio-rng-pci"]);
        for (number, disk) in self.disks.iter().enumerate() {
            disk.add(&mut command, number);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|source| Error::Start { command: shown(&command), source })?;
        Ok(Running::hear(child, self.echo))
    }
}

impl Disk {
    fn add(&self, command: &mut Command, number: usize) {
        // cache=writeback: a write is in the host's page cache when the guest is told that it is done, and a killed
        // QEMU loses none of those. What a cut of the power would lose is rebuilt from the log instead.
        let drive = match self {
            Self::Scratch(image) => format!("file={},format=raw,snapshot=on", image.display()),
            Self::Raw(image) => format!("file={},format=raw,cache=writeback", image.display()),
            Self::Logged { image, log } => format!(
                "driver=blklogwrites,file.driver=raw,file.file.driver=file,file.file.filename={},\
                 log.driver=raw,log.file.driver=file,log.file.filename={}",
                image.display(),
                log.display()
            ),
        };
        command.arg("-drive").arg(format!("if=none,id=disk{number},{drive}"));
        command.arg("-device").arg(format!("virtio-blk-pci,drive=disk{number},serial=disk{number}"));
    }
}

/// The status that a guest gave, if it came so far.
pub(crate) fn status(said: &str) -> Option<i32> {
    said.lines().rev().find_map(|line| line.trim().strip_prefix(STATUS)?.parse().ok())
}

/// What the guest said so far, and whether more can come.
#[derive(Debug, Default)]
struct Heard {
    text: Mutex<(String, bool)>,
    more: Condvar,
}

/// A guest that runs; dropping it cuts its power.
#[derive(Debug)]
pub struct Running {
    child: Child,
    heard: Arc<Heard>,
}

impl Running {
    fn hear(mut child: Child, echo: bool) -> Self {
        let heard = Arc::new(Heard::default());
        if let Some(serial) = child.stdout.take() {
            let heard = Arc::clone(&heard);
            std::thread::spawn(move || heard.listen(serial, echo, true));
        }
        if let Some(words) = child.stderr.take() {
            let heard = Arc::clone(&heard);
            std::thread::spawn(move || heard.listen(words, echo, false));
        }
        Self { child, heard }
    }

    /// Everything said so far.
    pub fn said(&self) -> String {
        self.heard.text.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Waits until the guest has said `words`; its end before that is an error.
    pub fn wait_for(&self, words: &str, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        let mut text = self.heard.text.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if text.0.contains(words) {
                return Ok(());
            }
            let left = end.saturating_duration_since(Instant::now());
            // QEMU stays after such an error, with the guest stopped for good.
            if text.1 || left.is_zero() || text.0.contains("KVM internal error") {
                return Err(Error::Wait {
                    what: format!("{words:?} on the serial line"),
                    limit,
                    output: tail(&text.0, 20),
                });
            }
            text = self.heard.more.wait_timeout(text, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for the guest's end; one that takes longer is cut off and is an error.
    pub fn end(&mut self, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            match self.child.try_wait() {
                Ok(Some(_)) => {
                    self.heard.drain();
                    return Ok(());
                }
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                Err(source) => return Err(Error::Start { command: "qemu".into(), source }),
            }
        }
        let output = tail(&self.said(), 40);
        self.cut();
        Err(Error::Wait { what: "the guest's end".into(), limit, output })
    }

    /// Whether the guest has ended.
    pub fn is_over(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends QEMU by its own means, without a word to the guest: what the guest has written until now is in its files,
    /// each request whole.
    pub fn quit(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if self.end(Duration::from_secs(30)).is_err() {
            self.cut();
        }
    }

    /// Cuts the power: the guest gets no chance to write anything more.
    pub fn cut(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.heard.drain();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.cut();
    }
}

impl Heard {
    fn listen(&self, from: impl std::io::Read, echo: bool, last: bool) {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let words = String::from_utf8_lossy(&line).replace('\r', "");
            if echo {
                print!("{words}");
            }
            self.text.lock().unwrap_or_else(PoisonError::into_inner).0.push_str(&words);
            self.more.notify_all();
            line.clear();
        }
        if last {
            self.text.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
            self.more.notify_all();
        }
    }

    /// Waits until the serial line has been read to its end; QEMU is gone, so that is soon.
    fn drain(&self) {
        let end = Instant::now() + Duration::from_secs(5);
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        while !text.1 && Instant::now() < end {
            text = self
                .more
                .wait_timeout(text, Duration::from_millis(100))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}
