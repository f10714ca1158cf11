//! A pod that is this machine, behind as much of a Kubernetes API as kubectl needs to exec into it.
//!
//! ```text
//! cargo run --package streaming --example pod -- 127.0.0.1:8001
//! kubectl --server http://127.0.0.1:8001 exec -i pod -- cat
//! kubectl --server http://127.0.0.1:8001 port-forward pod 8080:80
//! ```
//! Commands run as they are, without a container. A terminal is not made: its sizes are written to standard error. Without
//! an address it takes a free port and prints it.

use std::convert::Infallible;
use std::process::Stdio;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use streaming::remote_command::{Answer, Exit, RemoteCommand, Requested};
use streaming::{Failure, Limits, port_forward, relay, remote_command};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request)) });
            let _ =
                http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
        });
    }
}

fn answer(request: Request<Incoming>) -> Response<Full<Bytes>> {
    eprintln!("{} {} {:?}", request.method(), request.uri(), request.headers().get("upgrade"));
    let (path, query) =
        (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
    let limits = Limits::default();
    let Answer { response, session } = match path.rsplit('/').next().unwrap_or_default() {
        "exec" | "attach" => match Requested::from_query(&query) {
            Ok(requested) => {
                let command = values(&query, "command");
                remote_command::answer(request, requested, &limits, |streams| run(command, streams))
            }
            Err(error) => return Response::new(Full::from(error.to_string())),
        },
        "portforward" => {
            let ports = port_forward::ports_from_query(&query).unwrap_or_default();
            port_forward::answer(request, &ports, &limits, |port| async move {
                Ok(TcpStream::connect(("127.0.0.1", port)).await?)
            })
        }
        _ => return document(&path),
    };
    if let Some(session) = session {
        tokio::spawn(session);
    }
    response
}

/// Runs a program with the streams for its own.
async fn run(command: Vec<String>, streams: RemoteCommand) -> Result<Exit, Failure> {
    let RemoteCommand { stdin, stdout, stderr, resize, client, .. } = streams;
    let (program, arguments) = command.split_first().ok_or("there is no command")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let (Some(from), Some(to)) = (stdin, child.stdin.take()) {
        tokio::spawn(relay(from, to));
    }
    let sizes = tokio::spawn(async move {
        if let Some(mut resize) = resize {
            while let Some(size) = resize.next().await {
                eprintln!("terminal: {}x{}", size.width, size.height);
            }
        }
    });
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let pass = async |from: Option<Box<dyn tokio::io::AsyncRead + Unpin + Send>>,
                      to: Option<streaming::Output>| {
        match (from, to) {
            (Some(from), Some(to)) => relay(from, to).await.map(|_| ()),
            _ => Ok(()),
        }
    };
    let output = async {
        tokio::try_join!(
            pass(out.map(|out| Box::new(out) as _), stdout),
            pass(err.map(|err| Box::new(err) as _), stderr)
        )
    };
    tokio::select! {
        _ = output => {}
        () = client.gone() => eprintln!("the client is gone"),
    }
    if client.is_gone() {
        child.kill().await?;
    }
    sizes.abort();
    let status = child.wait().await?;
    Ok(Exit(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(137)))
}

/// What kubectl asks before it streams.
fn document(path: &str) -> Response<Full<Bytes>> {
    let text = match path {
        "/api" => r#"{"kind":"APIVersions","versions":["v1"]}"#,
        "/apis" => r#"{"kind":"APIGroupList","apiVersion":"v1","groups":[]}"#,
        "/api/v1" => {
            r#"{"kind":"APIResourceList","groupVersion":"v1","resources":[{"name":"pods","singularName":"pod","namespaced":true,
            "kind":"Pod","verbs":["get","list"],"shortNames":["po"]}]}"#
        }
        _ => {
            r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"pod","namespace":"default","uid":"u"},"spec":{"containers":
            [{"name":"c","image":"i","stdin":true}]},"status":{"phase":"Running"}}"#
        }
    };
    let mut response = Response::new(Full::from(text));
    response
        .headers_mut()
        .insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    response
}

/// All values of a key, with what is escaped in them put back.
fn values(query: &str, key: &str) -> Vec<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(known, _)| *known == key).map(|(_, value)| unescape(value)).collect()
}

fn unescape(value: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap_or_default(), rest.next().unwrap_or_default()];
                std::str::from_utf8(&digits)
                    .ok()
                    .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                    .unwrap_or(b'?')
            }
            byte => byte,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
