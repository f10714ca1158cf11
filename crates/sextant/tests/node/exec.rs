//! ExecSync.

use std::time::{Duration, Instant};

use cri::contract::Code;
use cri::contract::v1::ExecSyncRequest;

use crate::Test;
use crate::bench::Bench;

pub(crate) const TESTS: &[Test] = &[
    ("exec_returns_both_streams_and_the_code", streams),
    ("exec_ends_at_its_timeout", timeout),
    ("execs_output_fits_into_a_message", flood),
    ("execs_run_side_by_side", parallel),
];

fn streams(b: &Bench) {
    let pod = b.host_pod("exec");
    let c = b.run(&pod, "c", &["probe", "sleep"]);
    let words = ["probe", "say", "out", "then", "complain", "err", "then", "exit", "7"];
    let done = b.exec(&c, &words);
    assert_eq!((&done.stdout[..], &done.stderr[..], done.exit_code), (&b"out\n"[..], &b"err\n"[..], 7));
    let nosuch = ExecSyncRequest { container_id: c.clone(), cmd: vec!["nosuch".into()], timeout: 10 };
    let error = b.wait(async |client| client.exec_sync(nosuch).await).unwrap_err();
    assert!(error.to_string().contains("nosuch"), "{error}");
    b.stop(&c, 0);
    let late = ExecSyncRequest { container_id: c, cmd: vec!["probe".into()], timeout: 10 };
    let error = b.wait(async |client| client.exec_sync(late).await).unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    b.remove_pod(&pod);
}

fn timeout(b: &Bench) {
    let pod = b.host_pod("timeout");
    let c = b.run(&pod, "c", &["probe", "sleep"]);
    let words = ["probe", "sleep"].map(str::to_owned).to_vec();
    let request = ExecSyncRequest { container_id: c.clone(), cmd: words, timeout: 1 };
    let began = Instant::now();
    let error = b.wait(async |client| client.exec_sync(request).await).unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    b.until("the command is gone", || b.processes(&c) == 1);
    b.remove_pod(&pod);
}

fn flood(b: &Bench) {
    let pod = b.host_pod("flood");
    let c = b.run(&pod, "c", &["probe", "sleep"]);
    let done = b.exec(&c, &["probe", "flood", "1000000"]);
    assert_eq!((done.stdout.len(), done.exit_code), (1_000_000, 0));
    let done = b.exec(&c, &["probe", "flood", "20000000"]);
    assert_eq!(done.exit_code, 0);
    assert!(done.stdout.len() > 16_000_000 && done.stdout.len() < 16 << 20, "{}", done.stdout.len());
    b.remove_pod(&pod);
}

fn parallel(b: &Bench) {
    let pod = b.host_pod("parallel");
    let c = b.run(&pod, "c", &["probe", "sleep"]);
    let threads: Vec<_> = (0..10)
        .map(|number: i32| {
            let (cri, id) = (b.connect().unwrap(), c.clone());
            std::thread::spawn(move || {
                let cmd = ["probe", "say", &number.to_string()].map(str::to_owned).to_vec();
                let request = ExecSyncRequest { container_id: id, cmd, timeout: 60 };
                let done = cri.wait(async |client| client.exec_sync(request).await).unwrap();
                assert_eq!(done.stdout, format!("{number}\n"));
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    b.remove_pod(&pod);
}
