//! What the server holds for clients that ask for everything and take nothing.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::client::Client;
use crate::rig::{CONFIG_MAPS, Rig, config_map};

const CHILD: &str = "SEXTANT_SERVE_TEST_CHILD";

/// A server, until nobody listens to it any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child of the other tests here"]
async fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let rig = Rig::start().await;
    println!("serves {}", rig.client.address);
    let closed = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let _ = closed.await;
}

struct Other {
    process: Child,
    client: Client,
}

impl Other {
    fn start() -> Other {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "memory::child", "--ignored", "--nocapture"])
            .env(CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = lines
            .map_while(Result::ok)
            .find_map(|line| line.split_once("serves ")?.1.parse::<SocketAddr>().ok())
            .expect("the server tells its address");
        Other { process, client: Client::plain(address) }
    }

    /// MiB of its memory.
    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    async fn asked(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.client.address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        stream
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn who_reads_nothing_holds_little() {
    let server = Other::start();
    // 30 MiB of objects: held whole for each of the clients below they would be gigabytes.
    let large = "x".repeat(512 * 1024);
    for number in 0..60 {
        let made = server.client.post(CONFIG_MAPS, &config_map(&format!("n{number}"), &large)).await;
        assert_eq!(made.status, 201, "{}", made.text());
    }
    let before = server.resident();
    let mut unread = Vec::new();
    for _ in 0..40 {
        unread.push(server.asked(&format!("{CONFIG_MAPS}?watch=1")).await);
        unread.push(server.asked(CONFIG_MAPS).await);
    }
    for _ in 0..10 {
        unread.push(server.asked("/openapi/v2").await);
        unread.push(server.asked(&format!("{CONFIG_MAPS}?pretty=true")).await);
    }
    let mut most = 0;
    for _ in 0..30 {
        assert_eq!(server.client.get("/healthz").await.text(), "ok");
        most = most.max(server.resident());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(most < before + 400, "{before} MiB became {most} MiB");
    // Somebody who reads gets all of it meanwhile.
    let all = server.client.get(CONFIG_MAPS).await.json();
    assert_eq!(all["items"].as_array().unwrap().len(), 60);
    drop(unread);
}
