//! Calls through a socket: answers, streams, deadlines, limits, cancellation and the server's end.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use grpc::{Answer, Channel, Code, MAX_MESSAGE, Messages, Server, Service, Status, streaming, unary};
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Handlers that are running.
#[derive(Clone, Default)]
struct Running(Arc<AtomicUsize>);

struct Guard(Running);

impl Running {
    fn enter(&self) -> Guard {
        self.0.fetch_add(1, Ordering::SeqCst);
        Guard(self.clone())
    }

    /// Waits until this many are.
    async fn reaches(&self, count: usize) {
        while self.0.load(Ordering::SeqCst) != count {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Clone, Default)]
struct Test(Running);

impl Service for Test {
    fn name(&self) -> &'static str {
        "test.Test"
    }

    fn call(&self, method: &str, request: Bytes) -> Option<Answer> {
        let running = self.0.clone();
        Some(match method {
            "Echo" => unary(request, |text: String| async move { Ok(text) }),
            "Fail" => unary(request, |text: String| async move {
                Err::<String, _>(Status::new(Code::FailedPrecondition, text))
            }),
            "Repeat" => unary(request, |size: u32| async move { Ok("a".repeat(size as usize)) }),
            "Sleep" => unary(request, |milliseconds: u32| async move {
                let _guard = running.enter();
                tokio::time::sleep(Duration::from_millis(milliseconds.into())).await;
                Ok(milliseconds)
            }),
            "Count" => {
                streaming(request, |count: u32| async move { Ok((0..count).collect::<Vec<_>>().into()) })
            }
            "Break" => streaming(request, |text: String| async move {
                let (sender, messages) = Messages::channel(1);
                tokio::spawn(async move {
                    sender.send(text).await.unwrap();
                    sender.fail(Status::new(Code::DataLoss, "half")).await;
                });
                Ok(messages)
            }),
            "Pour" => streaming(request, |text: String| async move {
                let (sender, messages) = Messages::channel(1);
                let guard = running.enter();
                tokio::spawn(async move {
                    let _guard = guard;
                    while sender.send(text.clone()).await.is_ok() {}
                });
                Ok(messages)
            }),
            _ => return None,
        })
    }
}

struct Served {
    directory: tempfile::TempDir,
    running: Running,
    stop: oneshot::Sender<()>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Served {
    fn new(grace: Duration) -> Self {
        Self::by(Server::new(), grace)
    }

    fn by(server: Server, grace: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let test = Test::default();
        let running = test.0.clone();
        let listener = UnixListener::bind(directory.path().join("s")).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async move { drop(stopped.await) };
        let server = tokio::spawn(server.service(test).serve(listener, stopped, grace));
        Self { directory, running, stop, server }
    }

    async fn channel(&self) -> Channel {
        Channel::connect(&self.directory.path().join("s")).await.unwrap()
    }
}

const FOREVER: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_call_is_answered() {
    let served = Served::new(FOREVER);
    let channel = served.channel().await;
    for text in ["", "hello", &"x".repeat(1_000_000)] {
        let answer: String = channel.unary("/test.Test/Echo", &text.to_owned()).await.unwrap();
        assert_eq!(answer, text);
    }
}

#[tokio::test]
async fn a_failure_brings_its_code_and_text() {
    let served = Served::new(FOREVER);
    let channel = served.channel().await;
    for text in ["", "no ä, no 100 %\n"] {
        let error = channel.unary::<_, String>("/test.Test/Fail", &text.to_owned()).await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition);
        assert!(error.to_string().starts_with(&format!("cannot call Fail: {text}")), "{error}");
    }
    for path in ["/test.Test/Missing", "/test.Missing/Echo", "/"] {
        let error = channel.unary::<_, String>(path, &String::new()).await.unwrap_err();
        assert_eq!(error.code(), Code::Unimplemented, "{path}");
    }
}

#[tokio::test]
async fn what_is_no_message_is_refused() {
    let served = Served::new(FOREVER);
    let channel = served.channel().await;
    // A number where a string is expected.
    let error = channel.unary::<_, String>("/test.Test/Echo", &7u32).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    let error = channel.unary::<_, u32>("/test.Test/Echo", &"text".to_owned()).await.unwrap_err();
    assert_eq!(error.code(), Code::Internal, "{error}");
}

#[tokio::test]
async fn messages_are_bounded_both_ways() {
    let served = Served::new(FOREVER);
    let channel = served.channel().await;
    // A string's tag and length take five bytes here.
    let most = u32::try_from(MAX_MESSAGE).unwrap() - 5;
    let answer: String = channel.unary("/test.Test/Repeat", &most).await.unwrap();
    let back: String = channel.unary("/test.Test/Echo", &answer).await.unwrap();
    assert_eq!(back.len(), answer.len());
    let error = channel.unary::<_, String>("/test.Test/Repeat", &(most + 1)).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    let error = channel.unary::<_, String>("/test.Test/Echo", &(answer + "a")).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn a_server_has_bounds_of_its_own() {
    let served = Served::by(Server::new().bounded(64, 2), FOREVER);
    let channel = served.channel().await;
    // A string's tag and length take two bytes here.
    let echo = async |count: usize| channel.unary::<_, String>("/test.Test/Echo", &"x".repeat(count)).await;
    assert_eq!(echo(62).await.unwrap().len(), 62);
    for count in [63, 100_000] {
        assert_eq!(echo(count).await.unwrap_err().code(), Code::ResourceExhausted, "{count}");
    }
    // A third call is not begun.
    let slow = |channel: Channel| {
        tokio::spawn(async move { channel.unary::<_, u32>("/test.Test/Sleep", &3_600_000_u32).await })
    };
    let _calls = [slow(channel.clone()), slow(channel.clone())];
    served.running.reaches(2).await;
    let hasty = channel.with_deadline(Some(Duration::from_millis(50)));
    let error = hasty.unary::<_, String>("/test.Test/Echo", &String::new()).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_stream_brings_all_its_answers_in_order() {
    let served = Served::new(FOREVER);
    let channel = served.channel().await;
    for count in [0u32, 1, 1000] {
        let mut answers = channel.streaming::<_, u32>("/test.Test/Count", &count).await.unwrap();
        for expected in 0..count {
            assert_eq!(answers.next().await.unwrap(), Some(expected));
        }
        assert_eq!(answers.next().await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_stream_that_fails_says_so_after_what_came_before() {
    let served = Served::new(FOREVER);
    let channel = served.channel().await;
    let mut answers = channel.streaming::<_, String>("/test.Test/Break", &"one".to_owned()).await.unwrap();
    assert_eq!(answers.next().await.unwrap().as_deref(), Some("one"));
    assert_eq!(answers.next().await.unwrap_err().code(), Code::DataLoss);
    assert_eq!(answers.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_deadline_ends_the_handler_too() {
    let served = Served::new(FOREVER);
    let channel = served.channel().await.with_deadline(Some(Duration::from_millis(20)));
    let error = channel.unary::<_, u32>("/test.Test/Sleep", &3_600_000u32).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    served.running.reaches(0).await;
    let text = "x".repeat(1000);
    let mut answers = loop {
        // On a busy machine its time may be over before it has begun.
        match channel.streaming::<_, String>("/test.Test/Pour", &text).await {
            Ok(answers) => break answers,
            Err(error) => assert_eq!(error.code(), Code::DeadlineExceeded),
        }
    };
    let error = loop {
        match answers.next().await {
            Ok(answer) => assert_eq!(answer.as_deref(), Some(text.as_str())),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Code::DeadlineExceeded);
    drop(answers);
    served.running.reaches(0).await;
}

#[tokio::test]
async fn a_caller_that_leaves_takes_the_handler_along() {
    let served = Served::new(FOREVER);
    let channel = served.channel().await;
    let call = tokio::spawn({
        let channel = channel.clone();
        async move { channel.unary::<_, u32>("/test.Test/Sleep", &3_600_000u32).await }
    });
    served.running.reaches(1).await;
    call.abort();
    served.running.reaches(0).await;

    let answers = channel.streaming::<_, String>("/test.Test/Pour", &"x".to_owned()).await.unwrap();
    served.running.reaches(1).await;
    drop(answers);
    served.running.reaches(0).await;
    let answer: String = channel.unary("/test.Test/Echo", &"still here".to_owned()).await.unwrap();
    assert_eq!(answer, "still here");
}

#[tokio::test]
async fn hundreds_of_calls_that_are_cancelled_at_once_cost_nobody_the_connection() {
    let served = Served::new(FOREVER);
    let channel = served.channel().await;
    let calls: Vec<_> = (0..300)
        .map(|_| {
            let channel = channel.with_deadline(Some(Duration::from_millis(1)));
            tokio::spawn(async move { channel.unary::<_, u32>("/test.Test/Sleep", &3_600_000u32).await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
    }
    let answer: String = channel.unary("/test.Test/Echo", &"still here".to_owned()).await.unwrap();
    assert_eq!(answer, "still here");
    served.running.reaches(0).await;
}

#[tokio::test]
async fn a_reader_that_waits_holds_up_nobody_else() {
    let served = Served::new(FOREVER);
    let channel = served.channel().await;
    let text = "x".repeat(100_000);
    // Nobody reads these; the window of each stream fills up.
    let mut unread = Vec::new();
    for _ in 0..3 {
        unread.push(channel.streaming::<_, String>("/test.Test/Pour", &text).await.unwrap());
    }
    // Until the windows are full: each handler waits for its reader then.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let answer: String = channel.unary("/test.Test/Echo", &"here".to_owned()).await.unwrap();
    assert_eq!(answer, "here");
}

#[tokio::test]
async fn a_stopping_server_lets_calls_end_but_not_streams() {
    let Served { directory, running, stop, server } = Served::new(FOREVER);
    let socket = directory.path().join("s");
    let channel = Channel::connect(&socket).await.unwrap();
    let call = tokio::spawn({
        let channel = channel.clone();
        async move { channel.unary::<_, u32>("/test.Test/Sleep", &100u32).await }
    });
    let mut answers = channel.streaming::<_, String>("/test.Test/Pour", &"x".to_owned()).await.unwrap();
    running.reaches(2).await;
    stop.send(()).unwrap();
    let error = loop {
        if let Err(error) = answers.next().await {
            break error;
        }
    };
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(call.await.unwrap().unwrap(), 100);
    server.await.unwrap().unwrap();
    let error = Channel::connect(&socket).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    let error = channel.unary::<_, u32>("/test.Test/Sleep", &0u32).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(channel.is_closed());
}

#[tokio::test]
async fn a_call_that_outlasts_the_grace_is_dropped() {
    let Served { directory, running, stop, server } = Served::new(Duration::from_millis(20));
    let channel = Channel::connect(&directory.path().join("s")).await.unwrap();
    let call = tokio::spawn(async move { channel.unary::<_, u32>("/test.Test/Sleep", &3_600_000u32).await });
    running.reaches(1).await;
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
    assert_eq!(call.await.unwrap().unwrap_err().code(), Code::Unavailable);
    running.reaches(0).await;
}

#[tokio::test]
async fn a_peer_that_speaks_something_else_is_let_go() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let served = Served::new(FOREVER);
    let socket = served.directory.path().join("s");
    let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // The end, whatever came before it.
    let _reset = stream.read_to_end(&mut answer).await;
    let channel = served.channel().await;
    let answer: String = channel.unary("/test.Test/Echo", &"here".to_owned()).await.unwrap();
    assert_eq!(answer, "here");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let error = Channel::connect(Path::new("/nonexistent/sock")).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.to_string().contains("/nonexistent/sock"), "{error}");
}

/// A frame of HTTP/2 (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], content].concat()
}

/// A string among fields, as it is (RFC 7541, 5.2).
fn string(text: &str) -> Vec<u8> {
    let length = text.len();
    let head = match u8::try_from(length) {
        Ok(length @ 0..127) => vec![length],
        _ => vec![
            127,
            u8::try_from((length - 127) % 128).unwrap() | 128,
            u8::try_from((length - 127) / 128).unwrap(),
        ],
    };
    [head, text.as_bytes().to_vec()].concat()
}

/// A call of `/test.Test/Echo` with the message `hi`, with these fields beside those of any call.
fn echo(stream: u8, authority: &[u8], more: &[u8]) -> Vec<u8> {
    // Method and scheme; fields that are not to be remembered.
    let field = |name: &str, value: &str| [vec![0x00], string(name), string(value)].concat();
    let fields = [
        vec![0x83, 0x86],
        [vec![0x04], string("/test.Test/Echo")].concat(),
        authority.to_vec(),
        field("content-type", "application/grpc"),
        field("te", "trailers"),
        more.to_vec(),
    ]
    .concat();
    [frame(1, 4, stream, &fields), frame(0, 1, stream, &HI)].concat()
}

/// The message is a string of wrappers.proto.
const HI: [u8; 9] = [0, 0, 0, 0, 4, 0x0a, 2, b'h', b'i'];

/// How many of these calls are answered, before the server resets one or ends the connection. Sent is what gRPC's other implementations
/// send, but for the answers to settings and windows.
async fn answered(server: Server, calls: &[Vec<u8>]) -> usize {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let server = server.service(Test::default());
    let serving = tokio::spawn(server.serve(listener, std::future::pending(), Duration::ZERO));
    let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    let sent = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[]), calls.concat()].concat();
    stream.write_all(&sent).await.unwrap();
    let mut answer = Vec::new();
    let count =
        |answer: &[u8], part: &[u8]| answer.windows(part.len()).filter(|window| *window == part).count();
    // A stream that is reset: RST_STREAM, PROTOCOL_ERROR.
    let reset = [3, 0, 0, 0, 0, 1, 0, 0, 0, 1];
    while count(&answer, &HI) < calls.len() && count(&answer, &reset) == 0 {
        if stream.read_buf(&mut answer).await.unwrap() == 0 {
            break;
        }
    }
    serving.abort();
    count(&answer, &HI)
}

#[tokio::test]
async fn a_client_may_name_the_server_by_its_path() {
    let authority = [vec![0x41], string("%2Frun%2Fx.sock")].concat();
    let calls = [echo(1, &authority, &[])];
    assert_eq!(answered(Server::new().any_authority(), &calls).await, 1);
    assert_eq!(answered(Server::new(), &calls).await, 0);
}

#[tokio::test]
async fn a_short_name_stays_in_the_table_as_long_as_the_client_thinks() {
    // The table has 4096 bytes: 32 + 10 + 1 of this authority, and 32 + 1 + 4020 of the field that comes after it.
    let authority = [vec![0x41], string("a")].concat();
    let large = [vec![0x40], string("x"), string(&"y".repeat(4020))].concat();
    // The second call names it by its place.
    let calls = [echo(1, &authority, &large), echo(3, &[0xbf], &[])];
    assert_eq!(answered(Server::new().any_authority(), &calls).await, 2);
    assert_eq!(answered(Server::new(), &calls).await, 2);
}
