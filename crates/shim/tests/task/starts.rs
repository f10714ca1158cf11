//! `start`, many times at once.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use prost::Message;
use shim::protocol::task::BootstrapParams;

use crate::wait_until;

/// Begun, and waiting for its input.
fn begin(bundle: &Path, id: &str) -> Child {
    let program = std::env::var("SEXTANT_TEST_SHIM").ok();
    Command::new(program.as_deref().unwrap_or(env!("CARGO_BIN_EXE_sextant-shim")))
        .arg0(shim::containerd::NAME)
        .args(["-namespace", "test", "-address", "/none", "-id", id, "start"])
        .current_dir(bundle)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the command runs")
}

/// The processes that serve a socket in `directory`.
fn servers(directory: &Path) -> Vec<i32> {
    let wanted = directory.display().to_string();
    let serves = |pid: &i32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).into_owned();
        words.contains("-socket") && words.contains(&wanted)
    };
    let pids =
        fs::read_dir("/proc").expect("/proc").flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter(serves).collect()
}

/// Lets them go on, all at once: what they print.
fn answers(mut starts: Vec<(String, Child)>, sockets: &Path) -> Vec<String> {
    for (id, start) in &mut starts {
        let params = BootstrapParams {
            instance_id: id.clone(),
            socket_dir: Some(sockets.display().to_string()),
            ..BootstrapParams::default()
        };
        // Its end comes with the drop.
        start.stdin.take().expect("its input").write_all(&params.encode_to_vec()).expect("written");
    }
    let output = |(_, start): (String, Child)| start.wait_with_output().expect("its output").stdout;
    starts.into_iter().map(output).map(|text| String::from_utf8_lossy(&text).into_owned()).collect()
}

fn kill(pids: &[i32]) {
    for pid in pids {
        let pidfd = kernel::process::pidfd(*pid).expect("a process");
        kernel::process::signal(pidfd.as_fd(), 9).expect("killed");
    }
    wait_until("their end", || pids.iter().all(|pid| !Path::new(&format!("/proc/{pid}/exe")).exists()));
}

/// What one finds dead and takes away must not be what another has just made.
#[test]
fn of_many_starts_of_a_group_one_makes_a_shim() {
    let dir = tempfile::tempdir().unwrap();
    let sockets = dir.path().join("s");
    let bundle = dir.path().join("bundle");
    fs::create_dir(&bundle).unwrap();
    let config = r#"{"annotations": {"io.kubernetes.cri.sandbox-id": "pod"}}"#;
    fs::write(bundle.join("config.json"), config).unwrap();
    for round in 0..20 {
        // In every round but the first there is the socket of a shim that was killed.
        let starts = (0..8).map(|n| (format!("c{n}"), begin(&bundle, &format!("c{n}")))).collect();
        let answers = answers(starts, &sockets);
        // A child that is about to be another program has its parent's words for a moment; a second shim would stay.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(90);
        while servers(&sockets).len() != 1 && std::time::Instant::now() < end {
            std::thread::yield_now();
        }
        let found = servers(&sockets);
        kill(&found);
        assert!(answers[0].contains("unix://"), "{answers:?}");
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        assert_eq!(found.len(), 1, "round {round}: shims that serve one group");
    }
}
