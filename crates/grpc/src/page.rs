//! A page of text over HTTP/1.1, for who looks after a process: probes and monitors.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::Failure;

/// How long who asks may take.
const QUESTION: Duration = Duration::from_secs(5);
/// The longest head of a request.
const HEAD: usize = 8192;
/// So many are answered at the same time; others wait.
const MANY: usize = 16;

/// The page, where it is asked for; nowhere, if nobody wants it.
#[derive(Debug)]
pub struct Page {
    listener: Option<TcpListener>,
    /// Where on the server it is.
    path: &'static str,
    /// Its media type.
    kind: &'static str,
}

impl Page {
    /// Listens, if that is asked for by `option` of `command`, and tells so on standard error.
    ///
    /// # Errors
    /// Somebody else listens there, or the address is not this machine's.
    pub async fn listen(
        address: Option<SocketAddr>,
        (command, option): (&str, &str),
        path: &'static str,
        kind: &'static str,
    ) -> Result<Self, Failure> {
        let Some(address) = address else { return Ok(Self { listener: None, path, kind }) };
        let failed = |e| Failure::internal(format!("cannot listen on {address} ({option}): {e}"));
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().unwrap_or(address);
        eprintln!("sextant {command}: answers http://{address}{path}");
        Ok(Self { listener: Some(listener), path, kind })
    }

    /// Answers with what `text` comes to, a text for 500 where that is an error.
    pub async fn serve<T>(self, text: impl Fn() -> T) -> !
    where
        T: Future<Output = Result<String, String>> + Send + 'static,
    {
        let (path, kind) = (self.path, self.kind);
        let Some(listener) = self.listener else {
            loop {
                std::future::pending::<()>().await;
            }
        };
        let places = Arc::new(Semaphore::new(MANY));
        loop {
            // Closed it never is.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { continue };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let text = text();
                    tokio::spawn(async move {
                        // Whoever goes away does not want to know.
                        let _ = answer(stream, (path, kind), text).await;
                        drop(place);
                    });
                }
                // It passes, or nothing here would help.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

async fn answer(
    mut stream: TcpStream,
    (path, kind): (&str, &str),
    text: impl Future<Output = Result<String, String>>,
) -> std::io::Result<()> {
    let head = tokio::time::timeout(QUESTION, read(&mut stream)).await??;
    let mut words = head.split(' ');
    let (method, asked) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (status, text) = match (method, asked.split('?').next()) {
        ("GET" | "HEAD", Some(asked)) if asked == path => match text.await {
            Ok(text) => ("200 OK", text),
            Err(text) => ("500 Internal Server Error", text),
        },
        ("GET" | "HEAD", _) => ("404 Not Found", format!("ask for {path}\n")),
        _ => ("405 Method Not Allowed", "ask by GET\n".into()),
    };
    let length = text.len();
    let mut whole = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    if method != "HEAD" {
        whole.push_str(&text);
    }
    tokio::time::timeout(QUESTION, stream.write_all(whole.as_bytes())).await??;
    stream.shutdown().await
}

/// The head of a request, as far as it is UTF-8.
async fn read(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > HEAD || stream.read_buf(&mut head).await? == 0 {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_page_is_there_by_its_path_and_who_is_silent_holds_nobody_up() {
        let any = Some("127.0.0.1:0".parse().unwrap());
        let page = Page::listen(any, ("test", "--listen"), "/metrics", "text/plain").await.unwrap();
        let address = page.listener.as_ref().unwrap().local_addr().unwrap();
        let again = Page::listen(Some(address), ("test", "--listen"), "/metrics", "text/plain").await;
        assert!(again.unwrap_err().to_string().contains(&format!("{address} (--listen)")));
        tokio::spawn(async move { page.serve(|| async { Ok("well\n".to_owned()) }).await });
        let _silent = TcpStream::connect(address).await.unwrap();
        for (asked, status, text) in [
            ("GET /metrics HTTP/1.1", "200 OK", "well\n"),
            ("GET /metrics?x=y HTTP/1.1", "200 OK", "well\n"),
            ("HEAD /metrics HTTP/1.1", "200 OK", ""),
            ("GET /metricsx HTTP/1.1", "404 Not Found", "ask for /metrics\n"),
            ("POST /metrics HTTP/1.1", "405 Method Not Allowed", "ask by GET\n"),
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(format!("{asked}\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{asked}: {answer}");
            assert_eq!(answer.split_once("\r\n\r\n").unwrap().1, text, "{asked}");
        }
    }
}
