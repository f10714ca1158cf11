//! The command itself.

use k8s_openapi::api::storage::v1::StorageClass;

use crate::rig::{DRIVER, NODE, Rig};

#[tokio::test]
async fn it_comes_up_beside_an_api_server_and_a_driver() {
    let mut rig = Rig::start().await;
    let class = kube::Api::<StorageClass>::all(rig.client.clone()).get("image").await.unwrap();
    assert_eq!(class.provisioner, DRIVER);
    // Killed, and started again: as before.
    rig.kill("api");
    rig.kill("control");
    rig.again("api");
    rig.again("control");
    rig.until("the driver is found again", async |rig| {
        let found = rig.words("control").matches("driver csi.sextant.dev is at").count();
        (found == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn it_finds_drivers_as_they_come_and_go_and_ends_when_it_is_told_to() {
    let mut rig = Rig::bare().await;
    rig.control(&["--node", NODE]);
    rig.words_have("control", "works for https://127.0.0.1:").await;
    rig.driver();
    rig.words_have("control", "driver csi.sextant.dev is at").await;
    rig.kill("driver");
    rig.words_have("control", "driver csi.sextant.dev is gone").await;
    rig.driver();
    rig.until("the driver is found again", async |rig| {
        let found = rig.words("control").matches("driver csi.sextant.dev is at").count();
        (found == 2).then_some(())
    })
    .await;
    // Neither what it says nor how it ends depends on the API server being there.
    rig.kill("api");
    assert_eq!(rig.end("control"), Some(0), "{}", rig.words("control"));
    // What the library says that watches is a warning of the program as a whole.
    for line in rig.words("control").lines() {
        assert!(
            ["sextant control: ", "sextant: warning: "].iter().any(|name| line.starts_with(name)),
            "{line}"
        );
    }
}

#[tokio::test]
async fn who_has_no_api_server_is_told_what_to_do() {
    let mut rig = Rig::bare().await;
    for (args, words) in [
        (&["--kubeconfig", "/nowhere/config"][..], &["/nowhere/config", "No such file"][..]),
        (&["--csi-socket", "csi.sock"], &["absolute path"]),
    ] {
        let name = rig.spawn(args[0], &[&["control"], args].concat());
        let code = rig.wait(&name).await;
        let said = rig.words(&name);
        assert_ne!(code, Some(0), "{args:?}: {said}");
        words.iter().for_each(|word| assert!(said.contains(word), "{args:?}: {said}"));
    }
    rig.forget_kubeconfig();
    let name = rig.spawn("lonely", &["control"]);
    assert_eq!(rig.wait(&name).await, Some(1));
    assert!(rig.words(&name).contains("start `sextant api`"), "{}", rig.words(&name));
}

/// Status line and text of `http://ADDRESS/healthz`.
async fn health(address: &str) -> (String, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: here\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().into(), text.into())
}

#[tokio::test]
async fn its_health_is_that_of_its_drivers() {
    let mut rig = Rig::bare().await;
    rig.control(&["--health-listen", "127.0.0.1:0"]);
    rig.words_have("control", "works for").await;
    let words = rig.words("control");
    let (_, rest) = words.split_once("answers http://").unwrap();
    let address = rest.split_once('/').unwrap().0;
    let (status, text) = health(address).await;
    assert_eq!(status, "HTTP/1.1 500 Internal Server Error");
    assert!(text.contains("no driver is ready") && text.contains("run/csi.sock"), "{text}");
    rig.driver();
    let well = async |_: &Rig| (health(address).await.0 == "HTTP/1.1 200 OK").then_some(());
    rig.until("it is well with its driver", well).await;
    // What a driver that is gone has left where nobody was named is no failure; a driver that was named has to be there.
    drop(std::os::unix::net::UnixListener::bind(rig.socket("gone")).unwrap());
    assert_eq!(health(address).await.0, "HTTP/1.1 200 OK");
    rig.kill("driver");
    assert_eq!(health(address).await.0, "HTTP/1.1 500 Internal Server Error");
}
