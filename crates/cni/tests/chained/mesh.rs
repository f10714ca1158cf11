//! `sextant-mesh` beside a mesh of the test's own.

use std::fs::File;
use std::io::{IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use cni::contract::Code;
use cni::mesh::{Answer, LONGEST, Question};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};

use crate::Called;
use crate::rig::{Host, on_a_host};

/// What was asked, with the inode of the namespace that came along.
type Asked = Arc<Mutex<Vec<(Question, Option<u64>)>>>;

/// Answers every question so, until the test's process ends.
fn mesh(path: &Path, answer: Answer) -> Asked {
    let asked = Asked::default();
    let (kept, listener) = (Arc::clone(&asked), UnixListener::bind(path).unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut bytes = vec![0_u8; LONGEST];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(&mut bytes)];
            let got = recvmsg(&stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap().bytes;
            let fd = control.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
                _ => None,
            });
            let inode = fd.map(|fd| File::from(fd).metadata().unwrap().ino());
            let question = Question::parse(bytes[..got].strip_suffix(b"\n").unwrap()).unwrap();
            kept.lock().unwrap_or_else(PoisonError::into_inner).push((question, inode));
            stream.write_all(&answer.to_line().unwrap()).unwrap();
        }
    });
    asked
}

fn seen(asked: &Asked) -> Vec<(Question, Option<u64>)> {
    asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn socket(host: &Host) -> PathBuf {
    host.dir.path().join("mesh-pods.sock")
}

/// A pod's container, and the plugin with this configuration besides its socket.
fn pod<'a>(host: &'a Host, id: &str, more: &Value) -> Called<'a> {
    let mut conf = json!({ "type": "sextant-mesh", "socket": socket(host) });
    conf.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut called = Called::new(host, id, conf);
    let args = [("K8S_POD_NAMESPACE", "shop"), ("K8S_POD_NAME", "web-0"), ("K8S_POD_UID", "7e1f")];
    called.attachment.args = args.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    called
}

#[test]
fn the_mesh_is_told_of_the_pod_and_the_result_is_passed_on() {
    on_a_host(|host| {
        let asked = mesh(&socket(host), Answer::Captured);
        let called = pod(host, "c", &json!({ "required": true }));
        assert_eq!(called.add().unwrap(), called.previous.clone().unwrap());
        called.check().unwrap();
        let inode = std::fs::metadata(called.netns.path()).unwrap().ino();
        let all = seen(&asked);
        let [(Question::Made(made), one), (Question::Check(check), two)] = &all[..] else {
            panic!("{all:?}")
        };
        assert_eq!((made, *one, *two), (check, Some(inode), Some(inode)));
        assert_eq!((made.namespace.as_str(), made.name.as_str()), ("shop", "web-0"));
        assert_eq!((made.uid.as_str(), made.id.as_str()), ("7e1f", "c"));
        assert_eq!(made.netns, called.netns.path());
        called.del();
        called.del_with_nothing_known();
        assert_eq!(seen(&asked).len(), 2);
    });
}

#[test]
fn who_is_no_pod_of_the_api_is_not_told_of() {
    on_a_host(|host| {
        let asked = mesh(&socket(host), Answer::Failed("nobody asks".into()));
        let mut called = pod(host, "none", &json!({ "required": true }));
        called.attachment.args.clear();
        called.add().unwrap();
        let annotations = json!({ "kubernetes.io/config.source": "file" });
        let values = json!({ "io.kubernetes.cri.pod-annotations": annotations });
        pod(host, "static", &json!({ "required": true, "runtimeConfig": values })).add().unwrap();
        assert_eq!(seen(&asked), vec![]);
    });
}

#[test]
fn a_pod_starts_without_the_mesh_unless_it_is_required() {
    on_a_host(|host| {
        // Nobody is there.
        pod(host, "c0", &json!({})).add().unwrap();
        pod(host, "c0-again", &json!({})).check().unwrap();
        let called = pod(host, "c1", &json!({ "required": true }));
        for error in [called.add().unwrap_err(), called.check().unwrap_err()] {
            assert_eq!(error.code, Code::TryAgain, "{error}");
            assert!(error.to_string().contains("mesh-pods.sock"), "{error}");
        }
        let status = |called: &Called<'_>| called.plugin.status(&called.request());
        assert_eq!(status(&called).unwrap_err().code, Code::NotAvailable);
        status(&pod(host, "c2", &json!({}))).unwrap();
    });
    for (answer, words) in
        [(Answer::Unknown, "has not heard of it"), (Answer::Failed("no namespace".into()), "no namespace")]
    {
        on_a_host(|host| {
            mesh(&socket(host), answer.clone());
            pod(host, "c0", &json!({})).add().unwrap();
            let called = pod(host, "c1", &json!({ "required": true }));
            let error = called.add().unwrap_err();
            assert_eq!(error.code, Code::TryAgain);
            assert!(error.to_string().contains(words) && error.to_string().contains("shop/web-0"), "{error}");
            assert_eq!(called.plugin.status(&called.request()).unwrap_err().code, Code::NotAvailable);
            // What is not as it is to be is told by CHECK in any case.
            let failed = matches!(answer, Answer::Failed(_));
            assert_eq!(pod(host, "c2", &json!({})).check().is_err(), failed);
        });
    }
    on_a_host(|host| {
        mesh(&socket(host), Answer::NotAMember);
        pod(host, "c0", &json!({ "required": true })).add().unwrap();
    });
    on_a_host(|host| {
        mesh(&socket(host), Answer::Ready);
        let called = pod(host, "c0", &json!({ "required": true }));
        called.plugin.status(&called.request()).unwrap();
    });
}
