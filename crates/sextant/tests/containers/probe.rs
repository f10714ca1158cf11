//! What runs inside: words say what to do, one act after the other, `then` between them.

use std::fs;
use std::io::{BufRead, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use kernel::signal::Signals;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, getpid, kill_process};
use serde_json::{Value, json};

pub(crate) fn main(words: &[String]) -> ExitCode {
    for act in words.split(|w| w == "then") {
        let act: Vec<&str> = act.iter().map(String::as_str).collect();
        if let Err(code) = perform(&act) {
            return ExitCode::from(code);
        }
    }
    ExitCode::SUCCESS
}

/// Does one thing; an error is the exit code.
fn perform(act: &[&str]) -> Result<(), u8> {
    let failed = |e: std::io::Error| {
        eprintln!("{e}");
        1
    };
    match *act {
        [] => {}
        ["exit", code] => return Err(code.parse().unwrap_or(255)),
        ["say", ref words @ ..] => println!("{}", words.join(" ")),
        ["complain", ref words @ ..] => eprintln!("{}", words.join(" ")),
        ["ask-name", name] => {
            print!("{name}: ");
            std::io::stdout().flush().map_err(failed)?;
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).map_err(failed)?;
            println!("hello {}", line.trim());
        }
        ["lines"] => std::io::stdin().lock().lines().map_while(Result::ok).for_each(|l| println!("line {l}")),
        ["copy"] => {
            std::io::copy(&mut std::io::stdin(), &mut std::io::stdout()).map_err(failed)?;
        }
        ["flood", bytes] => {
            let piece = [b'x'; 1000];
            let mut out = std::io::stdout().lock();
            for _ in 0..bytes.parse::<usize>().unwrap_or(0) / piece.len() {
                out.write_all(&piece).map_err(failed)?;
            }
        }
        ["sleep"] => loop {
            std::thread::park();
        },
        ["await", path] => {
            while !Path::new(path).exists() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        ["tick", path] => {
            while !Path::new(path).exists() {
                println!("tick");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        ["write", path, text] => fs::write(path, text).map_err(failed)?,
        ["add", path, text] => {
            let mut file = fs::File::options().append(true).create(true).open(path).map_err(failed)?;
            writeln!(file, "{text}").map_err(failed)?;
        }
        ["read", path] => print!("{}", fs::read_to_string(path).map_err(failed)?),
        ["environment"] => std::env::vars().for_each(|(name, value)| println!("{name}={value}")),
        ["look", ref paths @ ..] => println!("{}", look(paths)),
        ["trap", ref names @ ..] => trap(names),
        ["die", name] => {
            let signal = Signal::from_named_raw(number(name)).ok_or(255)?;
            kill_process(getpid(), signal).map_err(|e| failed(e.into()))?;
        }
        ["sizes"] => sizes(),
        ["eat"] => {
            let mut all = Vec::new();
            loop {
                all.push(vec![1_u8; 1 << 20]);
            }
        }
        ["fork", count] => fork(count.parse().unwrap_or(0)),
        ["serve", port, ref words @ ..] => serve(port, &words.join(" ")).map_err(failed)?,
        ["ask", at] => println!("{}", ask(at).map_err(failed)?),
        ref other => {
            eprintln!("unknown probe {other:?}");
            return Err(255);
        }
    }
    Ok(())
}

fn number(name: &str) -> i32 {
    kernel::signal::parse(name).unwrap_or(0)
}

/// Says that it is ready, then each signal that comes; after the last of the list it goes on.
fn trap(names: &[&str]) {
    let numbers: Vec<i32> = names.iter().map(|n| number(n)).collect();
    let signals = Signals::receive(&numbers).expect("signals");
    println!("ready");
    let mut seen = None;
    while seen != numbers.last().copied() {
        seen = wait(&signals);
        let at = numbers.iter().position(|n| Some(*n) == seen);
        println!("got {}", at.and_then(|at| names.get(at)).unwrap_or(&"?"));
    }
}

fn wait(signals: &Signals) -> Option<i32> {
    let _ = poll(&mut [PollFd::new(signals, PollFlags::IN)], None);
    signals.next()
}

/// The terminal's size, now and whenever it changes.
fn sizes() {
    let signals = Signals::receive(&[Signal::WINCH.as_raw()]).expect("signals");
    loop {
        match rustix::termios::tcgetwinsize(std::io::stdin()) {
            Ok(size) => println!("size {}x{}", size.ws_col, size.ws_row),
            Err(e) => println!("no terminal: {e}"),
        }
        wait(&signals);
    }
}

/// Starts children until that many run or no more can be started, and says how many do.
fn fork(count: usize) {
    let program = "/proc/self/exe";
    let mut all = Vec::new();
    while all.len() < count {
        match Command::new(program).arg0("probe").arg("sleep").spawn() {
            Ok(child) => all.push(child),
            Err(_) => break,
        }
    }
    println!("{} children", all.len());
    for mut child in all {
        let _ = child.kill().and_then(|()| child.wait());
    }
}

/// Answers on this port, by TCP and UDP, with these words and the address that asked, for ever.
fn serve(port: &str, words: &str) -> std::io::Result<()> {
    let at = format!("0.0.0.0:{port}");
    let (listener, socket) = (TcpListener::bind(&at)?, UdpSocket::bind(&at)?);
    println!("serving");
    let said = words.to_owned();
    std::thread::spawn(move || {
        let mut question = [0; 100];
        while let Ok((_, from)) = socket.recv_from(&mut question) {
            let _ = socket.send_to(format!("{said} {}", from.ip()).as_bytes(), from);
        }
    });
    loop {
        let (mut stream, from) = listener.accept()?;
        let _ = stream.write_all(format!("{words} {}", from.ip()).as_bytes());
    }
}

/// What a server answers; it is given a while to come up.
pub(crate) fn ask(at: &str) -> std::io::Result<String> {
    let at: SocketAddr = at.parse().map_err(std::io::Error::other)?;
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = TcpStream::connect_timeout(&at, Duration::from_secs(20)).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            let mut text = String::new();
            stream.read_to_string(&mut text).map(|_| text)
        });
        if answer.is_ok() || Instant::now() >= until {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// What this process sees of itself, and of these paths.
fn look(paths: &[&str]) -> Value {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let status: Value = text("/proc/self/status")
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(k, v)| (k.to_owned(), v.trim().into()))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let seen: Value = paths
        .iter()
        .map(|path| ((*path).to_owned(), look_at(path)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    json!({
        "cwd": std::env::current_dir().unwrap_or_default(),
        "hostname": text("/proc/sys/kernel/hostname").trim(),
        "status": status, "paths": seen,
        "mounts": text("/proc/self/mounts"), "limits": text("/proc/self/limits"),
        "links": text("/proc/net/dev").lines().skip(2).filter_map(|l| Some(l.split_once(':')?.0.trim().to_owned())).collect::<Vec<_>>(),
        "terminal": std::io::IsTerminal::is_terminal(&std::io::stdin()),
    })
}

fn look_at(path: &str) -> Value {
    let path = Path::new(path);
    let Ok(meta) = fs::symlink_metadata(path) else { return Value::Null };
    let writable = match meta.is_dir() {
        true => {
            fs::write(path.join(".probe"), "x").and_then(|()| fs::remove_file(path.join(".probe"))).is_ok()
        }
        false => fs::File::options().append(true).open(path).is_ok(),
    };
    json!({
        "mode": format!("{:o}", meta.permissions().mode() & 0o7777), "uid": meta.uid(), "gid": meta.gid(),
        "text": meta.is_file().then(|| fs::read_to_string(path).unwrap_or_default()), "writable": writable,
    })
}
