//! `sextant explain`.

use cri::contract::v1::*;

use crate::bench::Bench;
use crate::wishes::{self, container, with_limits};

/// Asserts that these come in this order.
#[track_caller]
fn in_order(text: &str, words: &[&str]) {
    let mut rest = text;
    for word in words {
        let at = rest.find(word).unwrap_or_else(|| panic!("no {word:?} where it belongs in:\n{text}"));
        rest = &rest[at + word.len()..];
    }
}

fn attempt(mut config: ContainerConfig, attempt: u32) -> ContainerConfig {
    config.metadata.as_mut().unwrap().attempt = attempt;
    config
}

pub(super) fn story(b: &Bench) {
    let pod = b.pod("tale");
    let explain = || b.says(&["explain", "tests/tale"]);
    in_order(
        &explain(),
        &["sandbox", "made", "ms", "network attached", "Now:", "tests/tale is ready at", "CreateContainer"],
    );
    let image = "127.0.0.1:1/nosuch:latest";
    let pull = PullImageRequest {
        image: Some(ImageSpec { image: image.into(), ..ImageSpec::default() }),
        sandbox_config: Some(wishes::pod("tale")),
        ..PullImageRequest::default()
    };
    b.wait(async |c| c.pull_image(pull).await).unwrap_err();
    let mut config = container("c", &["probe"]);
    config.image.as_mut().unwrap().image = image.into();
    for _ in 0..2 {
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.clone(),
            config: Some(config.clone()),
            sandbox_config: None,
        };
        b.wait(async |c| c.create_container(request).await).unwrap_err();
    }
    let text = explain();
    in_order(
        &text,
        &[
            "network attached",
            "PullImage of 127.0.0.1:1/nosuch",
            "failed: ",
            "CreateContainer of c failed 2 times: ",
        ],
    );
    in_order(
        &text,
        &["Waits for:", "PullImage of", "to succeed", "CreateContainer of c to succeed: it failed 2 times"],
    );
    let first = b.run_as(&pod, container("c", &["probe", "exit", "3"]));
    b.until_exited(&first);
    let limits =
        LinuxContainerResources { memory_limit_in_bytes: 24 << 20, ..LinuxContainerResources::default() };
    let second = b.run_as(&pod, attempt(with_limits(container("c", &["probe", "eat"]), limits), 1));
    b.until_exited(&second);
    b.remove(&first);
    let wrong = b.create(&pod, container("wrong", &["nosuch"]));
    let request = StartContainerRequest { container_id: wrong };
    b.wait(async |c| c.start_container(request).await).unwrap_err();
    b.create(&pod, attempt(container("c", &["probe", "sleep"]), 2));
    let text = explain();
    in_order(
        &text,
        &[
            "container c ended: Error, code 3 (removed since)",
            "container c created (attempt 1) from",
            "container c started (attempt 1)",
            "container c ended (attempt 1): OOMKilled, code 137",
            "container wrong created from",
            "container wrong ended: StartError, code 127: ",
            "nosuch",
            "container c created (attempt 2)",
            "Now:",
            "container wrong ended",
            "container c was created",
            "after 2 restarts",
            "Waits for:",
            "another attempt of container wrong",
            "StartContainer of c",
        ],
    );
    assert!(!text.contains("CreateContainer of c to succeed"), "it has, since: {text}");
    // What the node remembers beside its records is gone with it; the rest stays.
    b.kill();
    b.start();
    in_order(
        &explain(),
        &["sandbox", "made", "container c ended (attempt 1): OOMKilled", "StartContainer of c"],
    );
    b.stop_pod(&pod);
    in_order(&explain(), &["is not ready", "Waits for:", "another sandbox"]);
    let told: serde_json::Value = serde_json::from_str(&b.says(&["explain", "tale", "-o", "json"])).unwrap();
    assert_eq!((&told["pod"], &told["ready"]), (&"tests/tale".into(), &false.into()), "{told:#}");
    let killed = told["timeline"].as_array().unwrap().iter().find(|m| m["failed"] == true).unwrap();
    assert!(killed["what"].as_str().unwrap().contains("OOMKilled"), "{told:#}");
    b.remove_pod(&pod);
}

pub(super) fn not_made(b: &Bench) {
    std::fs::write(b.path("in-the-way"), "").unwrap();
    let mut request = b.pod_request(wishes::host_pod("unmade"));
    let logs = std::mem::replace(
        &mut request.config.as_mut().unwrap().log_directory,
        b.path("in-the-way/logs").display().to_string(),
    );
    b.refuses(1, &["explain", "tests/unmade"], &["no pod \"tests/unmade\""]);
    for _ in 0..3 {
        let request = request.clone();
        b.wait(async |c| c.run_pod_sandbox(request).await).unwrap_err();
    }
    for name in ["tests/unmade", "unmade"] {
        in_order(
            &b.says(&["explain", name]),
            &[
                "RunPodSandbox failed 3 times: ",
                "config.log_directory",
                "has no sandbox",
                "RunPodSandbox: another try",
            ],
        );
    }
    request.config.as_mut().unwrap().log_directory = logs;
    let pod = b.ok(async |c| c.run_pod_sandbox(request).await).pod_sandbox_id;
    let text = b.says(&["explain", "unmade"]);
    in_order(&text, &["RunPodSandbox failed 3 times", "sandbox", "made", "Waits for:", "CreateContainer"]);
    assert!(!text.contains("to succeed"), "{text}");
    b.remove_pod(&pod);
    b.refuses(1, &["explain", "tests/unmade"], &["no pod \"tests/unmade\""]);
    std::fs::remove_file(b.path("in-the-way")).unwrap();
}
