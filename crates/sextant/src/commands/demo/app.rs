//! The demo's payload: this program, inside the image, by another name.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

/// What the payload is called in the image.
const NAME: &str = "sextant-demo-app";
/// Where it is there.
pub(super) const PATH: &str = "/bin/sextant-demo-app";
/// Where its server listens.
pub(super) const PORT: u16 = 8080;

/// `serve` answers every HTTP request; `get ADDRESS` sends one and prints the answer's body; `write FILE TEXT` and `read FILE` are of
/// volumes.
pub(crate) fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve"] => serve(),
        ["get", address] => get(address).map(|body| println!("{body}")),
        ["write", file, text] => write(file, text),
        ["read", file] => std::fs::read_to_string(file).map(|text| println!("{text}")),
        _ => Err(std::io::Error::other(format!(
            "usage: {NAME} serve | get ADDRESS:PORT | write FILE TEXT | read FILE"
        ))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{NAME}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> std::io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", PORT))?;
    println!("listening on port {PORT}");
    for connection in listener.incoming() {
        // One client's trouble is not another's.
        if let Err(error) = connection.and_then(answer) {
            eprintln!("{NAME}: {error}");
        }
    }
    Ok(())
}

/// Writes a file for good.
fn write(file: &str, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::File::create(file)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn answer(mut client: TcpStream) -> std::io::Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(5)))?;
    // To the end of its head: closing with bytes unread would reset the connection.
    let mut request = Vec::new();
    let mut piece = [0; 1024];
    while !request.windows(4).any(|w| w == b"\r\n\r\n") && request.len() < 16 << 10 {
        match client.read(&mut piece)? {
            0 => break,
            n => request.extend(&piece[..n]),
        }
    }
    let line = String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned();
    let peer = client.peer_addr()?.ip();
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let body = format!("hello {peer}, this is {} as process {}", host.trim(), std::process::id());
    println!("{peer} asked {line:?}");
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close";
    client.write_all(format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes())
}

/// The body of the answer to `GET /` at `address`.
pub(super) fn get(address: &str) -> std::io::Result<String> {
    let mut server = TcpStream::connect(address)?;
    server.set_read_timeout(Some(Duration::from_secs(5)))?;
    server.write_all(format!("GET / HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    server.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
        _ => Err(std::io::Error::other(format!("{address} answered {answer:?}"))),
    }
}
