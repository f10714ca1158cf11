//! A thousand at a time.

use tokio::io::AsyncReadExt;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_sessions_live_side_by_side() {
    let server = server().await;
    let echo = |way: Way| {
        way.exec(
            &server,
            requested(true, true, false, false),
            work(|mut streams: RemoteCommand| async move {
                let (stdin, stdout) = (streams.stdin.take(), streams.stdout.take());
                crate::relay(stdin.expect("stdin"), stdout.expect("stdout")).await?;
                Ok(Exit(5))
            }),
        )
    };
    let mut commands = Vec::new();
    for at in 0..1000 {
        commands.push(echo(if at % 2 == 0 { WAYS[0] } else { WAYS[4] }).await);
    }
    assert_eq!(server.sessions(), 1000);
    // All speak, then all are heard, then all end.
    for (at, command) in commands.iter_mut().enumerate() {
        say(&mut command.stdin, &(at as u64).to_be_bytes()).await;
    }
    for (at, command) in commands.iter_mut().enumerate() {
        let mut heard = [0; 8];
        within(command.stdout.as_mut().expect("stdout").read_exact(&mut heard)).await.expect("heard");
        assert_eq!(u64::from_be_bytes(heard), at as u64);
    }
    for mut command in commands {
        command.stdin = None;
        assert_eq!(all(&mut command.stdout).await, b"");
        assert_eq!(within(command.wait()).await.expect("an end"), Exit(5));
    }
    within(async {
        while server.sessions() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await
        }
    })
    .await;
}
