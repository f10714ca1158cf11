//! Probes over gRPC: the service `grpc.health.v1.Health` of a container is asked.

use std::net::SocketAddr;
use std::time::Duration;

use grpc::{Channel, Code, Error};

/// The question.
#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    /// Which of the server's services; empty for all.
    #[prost(string, tag = "1")]
    service: String,
}

/// The answer.
#[derive(Clone, PartialEq, prost::Message)]
struct Response {
    #[prost(enumeration = "Health", tag = "1")]
    status: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum Health {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
    ServiceUnknown = 3,
}

impl Health {
    fn name(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Serving => "SERVING",
            Self::NotServing => "NOT_SERVING",
            Self::ServiceUnknown => "SERVICE_UNKNOWN",
        }
    }
}

/// Asks within `time`; what came of it, in a kubelet's words, is the error where it is not well.
pub(super) async fn ask(address: SocketAddr, service: &str, time: Duration) -> Result<(), String> {
    let late =
        || format!("timeout: failed to connect service {:?} within {}", address.to_string(), words(time));
    let failed = |why: &dyn std::fmt::Display| {
        format!("error: failed to connect service at {:?}: {why}", address.to_string())
    };
    let connecting = async {
        let stream = super::hooks::dial(address).await.map_err(|why| failed(&why))?;
        Channel::over(stream).await.map_err(|why| failed(&why))
    };
    let began = tokio::time::Instant::now();
    let channel = tokio::time::timeout(time, connecting).await.unwrap_or_else(|_| Err(late()))?;
    let channel = channel.with_deadline(Some(time.saturating_sub(began.elapsed())));
    let request = Request { service: service.into() };
    let answer: Result<Response, Error> = channel.unary("/grpc.health.v1.Health/Check", &request).await;
    match answer {
        Ok(answer) if answer.status() == Health::Serving => Ok(()),
        Ok(answer) => Err(format!("service unhealthy (responded with {:?})", answer.status().name())),
        Err(error) => Err(match error.code() {
            Code::Unimplemented => format!(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
                crate::runtime::cause(&error)
            ),
            Code::DeadlineExceeded => format!("timeout: health rpc did not complete within {}", words(time)),
            _ => format!("error: health rpc probe failed: {}", crate::runtime::cause(&error)),
        }),
    }
}

/// As Go writes it.
fn words(time: Duration) -> String {
    format!("{}s", time.as_secs())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use bytes::Bytes;
    use grpc::{Answer, Server, Service, Status, listen, unary};
    use tokio::net::{TcpListener, UnixStream};

    use super::*;

    /// Well but for the service `bad`.
    struct Well;

    impl Service for Well {
        fn name(&self) -> &'static str {
            "grpc.health.v1.Health"
        }

        fn call(&self, method: &str, request: Bytes) -> Option<Answer> {
            (method == "Check").then(|| {
                unary(request, async |asked: Request| match asked.service.as_str() {
                    "none" => Err(Status::new(Code::NotFound, "unknown service")),
                    "bad" => Ok(Response { status: Health::NotServing.into() }),
                    _ => Ok(Response { status: Health::Serving.into() }),
                })
            })
        }
    }

    #[tokio::test]
    async fn services_are_asked_how_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let (listener, _bound) = listen(&path, "taken").await.unwrap();
        let server = Server::new().service(Well).serve(listener, std::future::pending(), Duration::ZERO);
        let serving = tokio::spawn(server);
        // The crate's server is on a socket's file; probes come over TCP.
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = tcp.local_addr().unwrap();
        let passing = tokio::spawn(async move {
            while let Ok((mut from, _)) = tcp.accept().await {
                let mut to = UnixStream::connect(&path).await.unwrap();
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut from, &mut to).await });
            }
        });
        let time = Duration::from_secs(20);
        assert_eq!(ask(address, "", time).await, Ok(()));
        let bad = ask(address, "bad", time).await.unwrap_err();
        assert_eq!(bad, "service unhealthy (responded with \"NOT_SERVING\")");
        let none = ask(address, "none", time).await.unwrap_err();
        assert_eq!(none, "error: health rpc probe failed: unknown service");
        passing.abort();
        let _ = passing.await;
        let refused = ask(address, "", time).await.unwrap_err();
        assert!(refused.contains("connection refused"), "{refused}");
        serving.abort();
    }
}
