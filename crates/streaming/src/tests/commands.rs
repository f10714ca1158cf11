//! Exec and attach.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use super::malformed::{WEBSOCKET, raw};
use super::*;
use crate::client::Protocol;
use crate::remote_command::TerminalSize;

#[tokio::test]
async fn output_and_exit_code_arrive() {
    let server = server().await;
    for way in WAYS {
        let act = work(|mut streams: RemoteCommand| async move {
            say(&mut streams.stdout, b"out").await;
            say(&mut streams.stderr, b"err").await;
            Ok(Exit(7))
        });
        let mut command = way.exec(&server, requested(false, true, true, false), act).await;
        assert!(command.stdin.is_none());
        assert_eq!(
            (all(&mut command.stdout).await, all(&mut command.stderr).await),
            (b"out".to_vec(), b"err".to_vec())
        );
        match within(command.wait()).await {
            Ok(exit) => assert!(way.tells_codes() && exit == Exit(7), "{way:?}: {exit:?}"),
            Err(error) => {
                assert!(!way.tells_codes(), "{way:?}: {error}");
                assert_eq!(error.to_string(), "command terminated with non-zero exit code: 7");
            }
        }
    }
    within(async {
        while server.sessions() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await
        }
    })
    .await;
}

#[tokio::test]
async fn a_failure_reaches_the_client_in_its_own_words() {
    let server = server().await;
    for way in WAYS {
        let act = work(|_| async { Err("cannot find the container c: it is gone".into()) });
        let mut command = way.exec(&server, requested(false, true, false, false), act).await;
        assert_eq!(all(&mut command.stdout).await, b"");
        let error = within(command.wait()).await.expect_err("a failure");
        assert_eq!(
            error.to_string(),
            "Internal error occurred: cannot find the container c: it is gone",
            "{way:?}"
        );
    }
}

#[tokio::test]
async fn success_says_so() {
    let server = server().await;
    for way in WAYS {
        let command = way
            .exec(&server, requested(true, false, false, false), work(|_| async { Ok(Exit::SUCCESS) }))
            .await;
        assert_eq!(within(command.wait()).await.expect("success"), Exit::SUCCESS, "{way:?}");
    }
}

#[tokio::test]
async fn input_ends_and_output_goes_on() {
    let server = server().await;
    for way in WAYS.into_iter().filter(|way| way.half_closes()) {
        // Like sort: nothing is written before all is read.
        let act = work(|mut streams: RemoteCommand| async move {
            let mut read = all(&mut streams.stdin).await;
            read.reverse();
            say(&mut streams.stdout, &read).await;
            Ok(Exit::SUCCESS)
        });
        let mut command = way.exec(&server, requested(true, true, false, false), act).await;
        let sent = pattern(3_000_000);
        say(&mut command.stdin, &sent).await;
        command.stdin = None;
        let mut received = all(&mut command.stdout).await;
        received.reverse();
        assert!(received == sent, "{way:?}: {} of {} bytes", received.len(), sent.len());
        assert_eq!(within(command.wait()).await.expect("success"), Exit::SUCCESS);
    }
}

#[tokio::test]
async fn input_that_comes_with_the_request_is_not_lost() {
    let server = server().await;
    let act = work(|mut streams: RemoteCommand| async move {
        let read = all(&mut streams.stdin).await;
        say(&mut streams.stdout, &read).await;
        Ok(Exit(0))
    });
    let url = server.exec(act, requested(true, true, false, false)).expect("an address");
    // "hi" on channel 0, and its end.
    let frames = [0x82, 0x83, 0, 0, 0, 0, 0, b'h', b'i', 0x82, 0x82, 0, 0, 0, 0, 255, 0];
    let mut socket = raw(&server, &url, WEBSOCKET, &frames).await;
    let mut answer = [0; 8];
    within(socket.read_exact(&mut answer)).await.expect("an answer");
    assert_eq!(answer, [0x82, 1, 1, 0x82, 3, 1, b'h', b'i']);
}

#[tokio::test]
async fn run_passes_everything_on() {
    let server = server().await;
    for protocol in [Protocol::Auto, Protocol::Spdy, Protocol::WebSocket] {
        let act = work(|mut streams: RemoteCommand| async move {
            let read = all(&mut streams.stdin).await;
            say(&mut streams.stderr, b"done").await;
            say(&mut streams.stdout, &read).await;
            Ok(Exit(3))
        });
        let wanted = requested(true, true, true, false);
        let target = Target::parse(&server.exec(act, wanted).expect("an address")).expect("a target");
        let command = Command::start(&target, wanted, protocol).await.expect("streams");
        let (sent, (_, sizes)) = (pattern(1_000_000), mpsc::channel(1));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = within(command.run(sent.as_slice(), &mut out, &mut err, sizes)).await.expect("an end");
        assert_eq!((exit, err.as_slice()), (Exit(3), &b"done"[..]));
        assert!(out == sent);
    }
}

#[tokio::test]
async fn a_terminal_is_resized() {
    let server = server().await;
    for way in WAYS {
        let act = work(move |mut streams: RemoteCommand| async move {
            assert!(streams.tty && streams.stderr.is_none());
            let mut resize = streams.resize.take().expect("sizes");
            if !way.resizes() {
                assert_eq!(within(resize.next()).await, None);
                return Ok(Exit(2));
            }
            for width in 1..=3 {
                assert_eq!(within(resize.next()).await, Some(TerminalSize { width, height: 24 }));
            }
            Ok(Exit(0))
        });
        let mut command = way.exec(&server, requested(true, true, false, true), act).await;
        for width in 0..=3 {
            // It fails once a command that takes no sizes has ended.
            let _ = command.resize(TerminalSize { width, height: 24 }).await;
        }
        let _ = command.wait().await;
    }
}

#[tokio::test]
async fn a_slow_reader_holds_the_command_back_and_loses_nothing() {
    let server = server().await;
    const LENGTH: usize = 64 << 20;
    for way in [WAYS[0], WAYS[4], WAYS[6]] {
        let (told, mut progress) = mpsc::unbounded_channel();
        let act = work(move |mut streams: RemoteCommand| async move {
            let chunk = pattern(1 << 16);
            for at in 0..LENGTH >> 16 {
                say_patiently(&mut streams.stdout, &chunk).await?;
                let _ = told.send(at);
            }
            Ok(Exit(0))
        });
        let mut command = way.exec(&server, requested(false, true, false, false), act).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut written = 0;
        while progress.try_recv().is_ok() {
            written += 1;
        }
        assert!(
            written < (LENGTH >> 16) / 2,
            "{way:?}: {written} of 1024 chunks were written though nobody reads"
        );
        let received = all(&mut command.stdout).await;
        assert_eq!(received.len(), LENGTH, "{way:?}");
        assert!(received.chunks(1 << 16).all(|chunk| chunk == pattern(1 << 16)));
        assert_eq!(within(command.wait()).await.expect("success"), Exit(0));
    }
}

async fn say_patiently(stream: &mut Option<crate::Output>, bytes: &[u8]) -> Result<(), Failure> {
    Ok(stream.as_mut().expect("a stream").write_all(bytes).await?)
}

#[tokio::test]
async fn a_command_that_reads_nothing_holds_its_client_back() {
    let server = server().await;
    for way in [WAYS[0], WAYS[4]] {
        let (go, gone) = oneshot::channel::<()>();
        let act = work(|mut streams: RemoteCommand| async move {
            let _ = gone.await;
            let read = all(&mut streams.stdin).await;
            Ok(Exit(if read == pattern(32 << 20) { 0 } else { 1 }))
        });
        let mut command = way.exec(&server, requested(true, false, false, false), act).await;
        let mut stdin = command.stdin.take().expect("stdin");
        let sending = tokio::spawn(async move { stdin.write_all(&pattern(32 << 20)).await });
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!sending.is_finished(), "{way:?}: 32 MiB went where nobody reads");
        go.send(()).expect("it waits");
        within(sending).await.expect("a task").expect("sent");
        assert_eq!(within(command.wait()).await.expect("success"), Exit(0), "{way:?}");
    }
}

#[tokio::test]
async fn a_client_that_goes_is_told_of() {
    let server = server().await;
    for way in WAYS {
        let (tell, told) = oneshot::channel();
        let act = work(|mut streams: RemoteCommand| async move {
            say(&mut streams.stdout, b"ready").await;
            streams.client.gone().await;
            assert!(streams.client.is_gone());
            let wrote =
                streams.stdout.as_mut().expect("stdout").write_all(b"x").await.expect_err("nobody reads");
            let read = streams.stdin.as_mut().expect("stdin").read(&mut [0; 1]).await;
            let _ = tell.send((wrote.kind(), read.map_err(|error| error.kind())));
            Ok(Exit(0))
        });
        let mut command = way.exec(&server, requested(true, true, false, false), act).await;
        let mut ready = [0; 5];
        within(command.stdout.as_mut().expect("stdout").read_exact(&mut ready)).await.expect("ready");
        drop(command);
        let (wrote, read) = within(told).await.expect("told");
        assert_eq!(wrote, std::io::ErrorKind::BrokenPipe, "{way:?}");
        // A WebSocket's farewell is an end of input, the only one that version 4 has; SPDY's is not.
        match way {
            Way::Spdy(_) => assert_eq!(read, Err(std::io::ErrorKind::ConnectionReset), "{way:?}"),
            Way::WebSocket(_) => assert_eq!(read, Ok(0), "{way:?}"),
        }
    }
    within(async {
        while server.sessions() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await
        }
    })
    .await;
}

#[tokio::test]
async fn a_command_that_wants_no_input_ends_all_the_same() {
    let server = server().await;
    for way in WAYS {
        // Like `true`: its client still sends when it has ended.
        let act = work(|mut streams: RemoteCommand| async move {
            drop(streams.stdin.take());
            say(&mut streams.stdout, &pattern(500_000)).await;
            Ok(Exit(0))
        });
        let mut command = way.exec(&server, requested(true, true, false, false), act).await;
        let mut stdin = command.stdin.take().expect("stdin");
        let sending = tokio::spawn(async move { while stdin.write_all(&[0; 10_000]).await.is_ok() {} });
        assert!(all(&mut command.stdout).await == pattern(500_000), "{way:?}");
        assert_eq!(within(command.wait()).await.expect("success"), Exit(0), "{way:?}");
        within(sending).await.expect("it ends when the command does");
    }
}

#[tokio::test]
async fn a_command_may_end_while_its_input_is_full() {
    let server = server().await;
    for way in WAYS {
        // The input is never read, and is still held when the command has ended.
        let act = work(|streams: RemoteCommand| async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            drop(streams);
            Ok(Exit(0))
        });
        let mut command = way.exec(&server, requested(true, true, false, false), act).await;
        let mut stdin = command.stdin.take().expect("stdin");
        let sending = tokio::spawn(async move { while stdin.write_all(&[0; 100_000]).await.is_ok() {} });
        assert_eq!(within(command.wait()).await.expect("success"), Exit(0), "{way:?}");
        within(sending).await.expect("it ends when the command does");
    }
}

#[tokio::test]
async fn an_attach_ends_without_a_code() {
    let server = server().await;
    let act = work(|mut streams: RemoteCommand| async move {
        say(&mut streams.stdout, b"log").await;
        Ok(Exit(9))
    });
    let wanted = requested(false, true, false, false);
    let url = server.attach(act, wanted).expect("an address");
    let mut command =
        Command::start(&Target::parse(&url).expect("a target"), wanted, Protocol::Auto).await.expect("it");
    assert_eq!(all(&mut command.stdout).await, b"log");
    assert_eq!(within(command.wait()).await.expect("success"), Exit(0));
}

#[tokio::test]
async fn what_is_idle_for_too_long_is_ended() {
    let limits = Limits { idle: Duration::from_millis(200), ..Limits::default() };
    let server = server_with(limits).await;
    for way in [WAYS[0], WAYS[4]] {
        let (tell, told) = oneshot::channel();
        let act = work(|streams: RemoteCommand| async move {
            streams.client.gone().await;
            let _ = tell.send(());
            Ok(Exit(0))
        });
        let command = way.exec(&server, requested(true, true, false, false), act).await;
        within(told).await.expect("told");
        assert!(matches!(within(command.wait()).await, Err(Error::Lost)), "{way:?}");
    }
}
