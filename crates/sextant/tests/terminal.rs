//! What only a person at a terminal sees: progress that is drawn, questions, refusals to garble the screen.
#![allow(clippy::unwrap_used, reason = "a test")]

mod site;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use site::{Site, USER};

/// A terminal with a program at it.
struct Terminal {
    keys: File,
    screen: Arc<Mutex<String>>,
    program: Child,
    reader: JoinHandle<()>,
    /// Keeps the terminal's modes readable after the program has ended.
    line: File,
}

impl Terminal {
    fn start(command: &Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        tcsetwinsize(&master, Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let line = File::options().read(true).write(true).open(path).unwrap();
        let end = || Stdio::from(line.try_clone().unwrap());
        // A session of its own, whose terminal this is.
        let mut session = Command::new("/usr/bin/setsid");
        session.arg("--ctty").arg(command.get_program()).args(command.get_args()).env_clear();
        session.envs(command.get_envs().filter_map(|(k, v)| Some((k, v?)))).env("TERM", "xterm");
        let program = session.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let keys = File::from(master);
        let screen = Arc::new(Mutex::new(String::new()));
        let (mut output, shown) = (keys.try_clone().unwrap(), screen.clone());
        let reader = spawn(move || {
            let mut buffer = [0; 4096];
            // EIO says that nobody has the other end any more.
            while let Ok(n @ 1..) = output.read(&mut buffer) {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
        });
        Self { keys, screen, program, reader, line }
    }

    fn wait_for(&self, text: &str) {
        let limit = Instant::now() + Duration::from_secs(120);
        while !self.screen.lock().unwrap().contains(text) {
            assert!(Instant::now() < limit, "no {text:?} on {:?}", self.screen.lock().unwrap());
            sleep(Duration::from_millis(10));
        }
    }

    fn type_in(&mut self, text: &str) {
        self.keys.write_all(text.as_bytes()).unwrap();
    }

    /// Waits for the program's end: its exit code, all that was shown, and whether keys are shown again.
    fn end(mut self) -> (i32, String, bool) {
        let code = self.program.wait().unwrap().code().unwrap_or(-1);
        let echo = tcgetattr(&self.line).unwrap().local_modes.contains(LocalModes::ECHO);
        drop(self.line);
        self.reader.join().unwrap();
        let screen = self.screen.lock().unwrap().clone();
        (code, screen, echo)
    }
}

#[test]
fn a_pull_is_drawn_a_line_for_each_layer() {
    let site = Site::new();
    let name = site.name("tool:v1");
    site.image(&name, &[7; 100_000]);
    site.ok(&["push", "-q", &name]);
    for plain in [false, true] {
        site.ok(&["rmi", &name]);
        let mut command = site.command(&["pull", &name]);
        if plain {
            command.env("NO_COLOR", "1");
        }
        let (code, screen, _) = Terminal::start(&command).end();
        assert_eq!(code, 0, "{screen}");
        assert!(screen.contains("done") && screen.contains('\u{1b}') && screen.contains(&name), "{screen:?}");
        assert_eq!(screen.contains("\u{1b}[36m"), !plain, "colours unless NO_COLOR: {screen:?}");
    }
}

#[test]
fn a_password_is_asked_for_and_not_shown() {
    let site = Site::with_user();
    let registry = site.registry.addr().to_string();
    let login = site.command(&["login", &registry]);
    let mut terminal = Terminal::start(&login);
    terminal.wait_for("Username: ");
    terminal.type_in(&format!("{}\n", USER.0));
    terminal.wait_for("Password: ");
    // Typed before the terminal is silent it would be shown.
    let limit = Instant::now() + Duration::from_secs(120);
    while tcgetattr(&terminal.line).unwrap().local_modes.contains(LocalModes::ECHO) {
        assert!(Instant::now() < limit);
        sleep(Duration::from_millis(5));
    }
    terminal.type_in(&format!("{}\n", USER.1));
    let (code, screen, echo) = terminal.end();
    assert!(code == 0 && screen.contains("logged in to"), "{screen}");
    assert!(!screen.contains(USER.1) && echo, "{screen}");
    assert!(fs::read_to_string(site.path("home/.docker/config.json")).unwrap().contains(&registry));

    let mut terminal = Terminal::start(&site.command(&["login", "-u", "me", &registry]));
    terminal.wait_for("Password: ");
    let limit = Instant::now() + Duration::from_secs(120);
    while tcgetattr(&terminal.line).unwrap().local_modes.contains(LocalModes::ECHO) {
        assert!(Instant::now() < limit);
        sleep(Duration::from_millis(5));
    }
    terminal.type_in("half\u{3}");
    let (code, screen, echo) = terminal.end();
    assert!(code == 130 && screen.contains("cancelled") && echo, "{code} {screen}");
}

#[test]
fn archives_are_not_written_to_a_screen() {
    let site = Site::new();
    let name = site.name("tool:v1");
    site.image(&name, b"hello");
    for (args, hint) in [(["save", &name].as_slice(), "-o FILE"), (&["load"], "-i FILE")] {
        let (code, screen, _) = Terminal::start(&site.command(args)).end();
        assert!(code == 1 && screen.contains(hint), "{screen}");
    }
}

#[test]
fn prune_asks_first() {
    let site = Site::new();
    let name = site.name("tool:v1");
    site.image(&name, b"hello");
    let prune = |answer: &str| {
        let mut terminal = Terminal::start(&site.command(&["prune", "--all"]));
        terminal.wait_for("[y/N]");
        terminal.type_in(answer);
        terminal.end()
    };
    let (code, screen, _) = prune("\n");
    assert!(code == 1 && screen.contains("all images that no container uses"), "{screen}");
    assert_eq!(site.ok(&["images", "-q"]).lines().count(), 1);
    let (code, screen, _) = prune("y\n");
    assert!(code == 0 && screen.contains("freed"), "{screen}");
    assert_eq!(site.ok(&["images", "-q"]), "");
}
