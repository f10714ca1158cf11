//! The AppArmor profile that a container asks for, and the one that it has without asking.
//!
//! The kernel takes compiled profiles alone, so the default one is loaded by the host's `apparmor_parser`, when the first
//! container of this process needs it: one that is loaded already may be of an older version. A machine with AppArmor but
//! without that program is as one without AppArmor, for whoever asks for nothing.

use std::fs;
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kernel::process::Waited;
use rustix::fs::MemfdFlags;

use crate::contract::Error;
use crate::contract::profile::{self, Asked, Profile};
use crate::contract::v1::LinuxContainerSecurityContext;

/// The default profile's name.
pub(super) const DEFAULT: &str = "sextant-default";

/// What it is. Whoever has it may do what its capabilities let it, but mount, trace what has another profile, or write to
/// what steers the machine: those are ways out.
const TEXT: &str = include_str!("apparmor.profile");

const FIELD: &str = "config.linux.security_context";

/// How long the parser may take: what it does is a second's work on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a machine's AppArmor knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Machine {
    enabled: bool,
    loaded: Vec<String>,
    /// `apparmor_parser`, with the arguments that it always has.
    parser: Option<Vec<String>>,
}

impl Machine {
    /// This one.
    pub(super) fn here() -> Self {
        let enabled =
            fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.first() == Some(&b'Y'));
        if !enabled {
            return Self::default();
        }
        let loaded = fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap_or_default();
        // `name (mode)` a line; a name may have spaces.
        let name = |line: &str| line.rsplit_once(" (").map(|(name, _)| name.to_owned());
        Self { enabled, loaded: loaded.lines().filter_map(name).collect(), parser: parser() }
    }

    fn has(&self, profile: &str) -> bool {
        self.loaded.iter().any(|loaded| loaded == profile)
    }
}

fn parser() -> Option<Vec<String>> {
    let paths = ["/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"];
    paths.into_iter().find(|path| fs::exists(path).is_ok_and(|there| there)).map(|path| vec![path.to_owned()])
}

/// What a process has done about the default profile.
#[derive(Debug, Default)]
pub(super) struct Done(Mutex<Progress>);

#[derive(Debug, Default)]
struct Progress {
    /// The kernel was given this version's.
    tried: bool,
    /// What is wrong with this machine was said.
    said: bool,
}

impl Done {
    /// By no process yet.
    pub(super) const fn nothing() -> Self {
        Self(Mutex::new(Progress { tried: false, said: false }))
    }
}

/// The profile, and what the operator has to hear of it. No name is no profile. Loads the default one if it is needed.
pub(super) fn profile(
    security: &LinuxContainerSecurityContext,
    machine: &Machine,
    done: &Done,
) -> Result<(String, Option<String>), Error> {
    #[expect(deprecated, reason = "older kubelets send the old notation alone")]
    let asked = profile::apparmor(security.apparmor.as_ref(), &security.apparmor_profile);
    let Asked { profile, field } = asked.map_err(|e| e.within(FIELD))?;
    let field = format!("{FIELD}.{field}");
    let confined = |name: &str| Ok((name.to_owned(), None));
    let off = |shown: &str| {
        let hint = "this machine has no AppArmor: leave it out, or give Unconfined";
        Err(Error::invalid(field.clone(), format!("{shown} cannot be: {hint}")))
    };
    match profile {
        Profile::Default if !machine.enabled => off("the runtime's profile"),
        Profile::Localhost(name) if !machine.enabled => off(&format!("{name:?}")),
        Profile::Unconfined => confined(""),
        Profile::Unsaid if !machine.enabled => confined(""),
        // All of it is given to a privileged container.
        _ if security.privileged => confined(""),
        Profile::Unsaid if !machine.has(DEFAULT) && machine.parser.is_none() => Ok((
            String::new(),
            once(done, || {
                "containers that ask for no profile run without AppArmor: the runtime's is loaded by apparmor_parser, \
                 which is not there; install the package apparmor"
                    .into()
            }),
        )),
        Profile::Unsaid | Profile::Default => {
            let said = load(machine, done).map_err(|e| e.within(&field))?;
            Ok((DEFAULT.to_owned(), said))
        }
        Profile::Localhost(name) if !machine.has(name) => {
            let hint = "load it with apparmor_parser first";
            Err(Error::precondition(format!("no profile {name:?} is loaded: {hint}")).within(&field))
        }
        Profile::Localhost(name) => confined(name),
    }
}

/// What is said by a process at most once.
fn once(done: &Done, text: impl FnOnce() -> String) -> Option<String> {
    let mut progress = done.0.lock().unwrap_or_else(PoisonError::into_inner);
    (!std::mem::replace(&mut progress.said, true)).then(text)
}

/// Gives the kernel the default profile, unless this process has and it is still there. Where that fails an older one is
/// better than none: then it is what is returned.
fn load(machine: &Machine, done: &Done) -> Result<Option<String>, Error> {
    // Held while it is loaded: who comes meanwhile needs it, too.
    let mut progress = done.0.lock().unwrap_or_else(PoisonError::into_inner);
    let is_loaded = machine.has(DEFAULT);
    if is_loaded && progress.tried {
        return Ok(None);
    }
    let cannot = |why: &str| format!("cannot load the AppArmor profile {DEFAULT}: {why}");
    let missing = || cannot("apparmor_parser, which does it, is not there: install the package apparmor");
    let parsed = match &machine.parser {
        Some(parser) => parse(parser, &["--replace"], PATIENCE).map_err(|e| Error::internal(cannot(&e))),
        None => Err(Error::precondition(missing())),
    };
    match parsed {
        Err(error) if !is_loaded => Err(error),
        tried => {
            progress.tried = true;
            Ok(tried.err().map(|error| format!("{}; the one that was loaded before stays", error.message)))
        }
    }
}

/// Gives the profile to `apparmor_parser`, which is killed after `patience`.
fn parse(parser: &[String], options: &[&str], patience: Duration) -> Result<(), String> {
    let [program, arguments @ ..] = parser else { return Err("no program is named".into()) };
    // Files, and no pipes: nobody waits for anybody to read or to write.
    let file = |name: &str| {
        rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC).map(fs::File::from).map_err(|e| e.to_string())
    };
    let (mut input, mut errors) = (file("profile")?, file("errors")?);
    let shared = |file: &fs::File| file.try_clone().map(Stdio::from).map_err(|e| e.to_string());
    input.write_all(TEXT.as_bytes()).and_then(|()| input.rewind()).map_err(|e| e.to_string())?;
    let mut child = Command::new(program)
        .args(arguments)
        .args(options)
        .env_clear()
        .stdin(shared(&input)?)
        .stdout(Stdio::null())
        .stderr(shared(&errors)?)
        .spawn()
        .map_err(|e| format!("cannot execute {program}: {e}"))?;
    let ended = i32::try_from(child.id())
        .map_err(|e| e.to_string())
        .and_then(|pid| kernel::process::pidfd(pid).map_err(|e| e.to_string()))
        .and_then(|process| {
            kernel::process::await_end(process.as_fd(), Some(patience), None).map_err(|e| e.to_string())
        });
    if !matches!(ended, Ok(Waited::Ended)) {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    ended.and_then(|waited| match waited {
        Waited::Ended => Ok(()),
        Waited::TimedOut | Waited::HungUp => {
            Err(format!("{program} has not ended within {} ms", patience.as_millis()))
        }
    })?;
    if status.success() {
        return Ok(());
    }
    let mut said = Vec::new();
    let read = errors.rewind().and_then(|()| errors.take(4096).read_to_end(&mut said));
    read.map_err(|e| e.to_string())?;
    Err(format!("{program}: {status}: {}", String::from_utf8_lossy(&said).trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::v1::SecurityProfile;
    use crate::contract::v1::security_profile::ProfileType;

    fn on(loaded: &[&str]) -> Machine {
        Machine { enabled: true, loaded: loaded.iter().map(ToString::to_string).collect(), parser: None }
    }

    fn with(kind: ProfileType, reference: &str) -> LinuxContainerSecurityContext {
        LinuxContainerSecurityContext {
            apparmor: Some(SecurityProfile { profile_type: kind.into(), localhost_ref: reference.into() }),
            ..LinuxContainerSecurityContext::default()
        }
    }

    /// The profile's name, by a process that has done nothing yet.
    fn of(security: &LinuxContainerSecurityContext, machine: &Machine) -> Result<String, Error> {
        profile(security, machine, &Done::nothing()).map(|(name, _)| name)
    }

    fn field(result: Result<String, Error>) -> String {
        result.unwrap_err().field.unwrap().replace("config.linux.security_context.", "")
    }

    #[test]
    fn without_a_word_the_default_where_there_is_one() {
        let nothing = LinuxContainerSecurityContext::default();
        assert_eq!(of(&nothing, &Machine::default()).unwrap(), "");
        assert_eq!(of(&nothing, &on(&[])).unwrap(), "", "no way to load it");
        assert_eq!(of(&nothing, &on(&[DEFAULT])).unwrap(), DEFAULT);
        let privileged = LinuxContainerSecurityContext { privileged: true, ..nothing };
        assert_eq!(of(&privileged, &on(&[DEFAULT])).unwrap(), "");
    }

    #[test]
    fn what_is_asked_for_is_there_or_an_error() {
        let both = on(&[DEFAULT, "mine"]);
        assert_eq!(of(&with(ProfileType::RuntimeDefault, ""), &both).unwrap(), DEFAULT);
        assert_eq!(of(&with(ProfileType::Unconfined, ""), &both).unwrap(), "");
        assert_eq!(of(&with(ProfileType::Localhost, "mine"), &both).unwrap(), "mine");
        assert_eq!(field(of(&with(ProfileType::Localhost, "none"), &both)), "apparmor.localhost_ref");
        assert_eq!(field(of(&with(ProfileType::RuntimeDefault, ""), &on(&[]))), "apparmor.profile_type");
    }

    #[test]
    fn a_machine_without_apparmor_takes_no_profile() {
        let off = Machine::default();
        assert_eq!(field(of(&with(ProfileType::RuntimeDefault, ""), &off)), "apparmor.profile_type");
        assert_eq!(field(of(&with(ProfileType::Localhost, "mine"), &off)), "apparmor.localhost_ref");
        assert_eq!(of(&with(ProfileType::Unconfined, ""), &off).unwrap(), "");
        #[expect(deprecated, reason = "the old notation")]
        let old = LinuxContainerSecurityContext {
            apparmor_profile: "runtime/default".into(),
            ..LinuxContainerSecurityContext::default()
        };
        assert_eq!(field(of(&old, &off)), "apparmor_profile");
    }

    /// A shell that stands in for the parser: it gets the parser's input and, from `$0` on, its options.
    fn stand_in(script: &str) -> Option<Vec<String>> {
        Some(["/bin/sh", "-c", script].map(str::to_owned).to_vec())
    }

    #[test]
    fn each_process_loads_its_version_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        let given = |name| fs::read_to_string(file(name)).unwrap_or_default();
        let script = format!("echo \"$0\" >> {0}/options; cat > {0}/profile", dir.path().display());
        let nothing = LinuxContainerSecurityContext::default();
        for loaded in [&[][..], &[DEFAULT]] {
            let _ = fs::remove_file(file("options"));
            let done = Done::nothing();
            let before = Machine { parser: stand_in(&script), ..on(loaded) };
            let after = Machine { loaded: vec![DEFAULT.to_owned()], ..before.clone() };
            assert_eq!(profile(&nothing, &before, &done).unwrap(), (DEFAULT.to_owned(), None));
            assert_eq!((given("options").as_str(), given("profile").as_str()), ("--replace\n", TEXT));
            profile(&nothing, &after, &done).unwrap();
            assert_eq!(given("options"), "--replace\n", "it is loaded once");
            // Somebody has taken it away.
            profile(&nothing, &Machine { parser: stand_in(&script), ..on(&[]) }, &done).unwrap();
            assert_eq!(given("options"), "--replace\n--replace\n");
        }
    }

    #[test]
    fn an_older_version_is_better_than_none_and_that_is_said_once() {
        let nothing = LinuxContainerSecurityContext::default();
        let broken = stand_in("echo 'syntax error' >&2; exit 1");
        let done = Done::nothing();
        let machine = Machine { parser: broken.clone(), ..on(&[DEFAULT]) };
        let (name, said) = profile(&nothing, &machine, &done).unwrap();
        assert_eq!(name, DEFAULT);
        assert!(said.as_deref().is_some_and(|said| said.contains("syntax error")), "{said:?}");
        assert_eq!(profile(&nothing, &machine, &done).unwrap().1, None);
        let error = of(&nothing, &Machine { parser: broken, ..on(&[]) }).unwrap_err();
        assert!(error.message.contains("syntax error"), "{error}");
    }

    #[test]
    fn it_is_said_once_that_containers_are_unconfined() {
        let (nothing, done) = (LinuxContainerSecurityContext::default(), Done::nothing());
        let said = || profile(&nothing, &on(&[]), &done).unwrap().1;
        assert!(said().is_some_and(|said| said.contains("install the package apparmor")));
        assert_eq!(said(), None);
        // Where there is no AppArmor nobody expects any.
        assert_eq!(profile(&nothing, &Machine::default(), &Done::nothing()).unwrap().1, None);
    }

    #[test]
    fn a_parser_that_does_not_end_is_killed() {
        let parser = stand_in("exec sleep 1000").unwrap();
        let error = parse(&parser, &[], Duration::from_millis(50)).unwrap_err();
        assert!(error.contains("has not ended within 50 ms"), "{error}");
        let missing = parse(&["/there/is/none".to_owned()], &[], PATIENCE).unwrap_err();
        assert!(missing.contains("cannot execute /there/is/none"), "{missing}");
    }

    /// Compiles the profile without loading it, where the compiler is installed: elsewhere nothing can use it either.
    #[test]
    fn the_default_profile_compiles() {
        assert!(TEXT.contains(&format!("profile {DEFAULT} ")));
        let Some(parser) = parser() else {
            // Not `eprintln!`, which the harness keeps to itself where a test passes.
            let _ = writeln!(
                std::io::stderr(),
                "skipped the_default_profile_compiles: apparmor_parser is not installed"
            );
            return;
        };
        parse(&parser, &["--skip-kernel-load", "--skip-cache", "--abort-on-error"], PATIENCE).unwrap();
    }
}
