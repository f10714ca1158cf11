//! The socket at which people ask what the mesh of this node does.

use std::sync::Arc;
use std::time::Duration;

use serde_json::from_slice;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::accept::each;
use super::known::Known;
use super::lines::Lines;
use super::wire::{Answer, Question};

/// How long who asks may take for the question, and to take a piece of the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest question.
const LONGEST: u64 = 64 << 10;
/// So many are answered at the same time; others wait.
const MANY: usize = 128;

/// Answers for as long as it is polled.
pub(super) async fn serve(listener: UnixListener, known: Known, lines: Arc<Lines>) {
    let hear = move |stream| {
        let (known, lines) = (known.clone(), lines.clone());
        async move { answer(stream, &known, &lines).await }
    };
    each(listener, MANY, hear).await;
}

async fn answer(stream: UnixStream, known: &Known, lines: &Lines) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut question = Vec::new();
    timeout(PATIENCE, (&mut stream).take(LONGEST).read_until(b'\n', &mut question)).await??;
    let mut stream = stream.into_inner();
    let refused = |error: &dyn std::fmt::Display| Answer::Refused(error.to_string());
    let answer = match from_slice(&question) {
        Err(error) => refused(&format!("cannot read the question: {error}")),
        Ok(Question::State) => {
            known.state().map_or_else(|e| refused(&e), |state| Answer::State(Box::new(state)))
        }
        Ok(Question::Routes) => known.routes().map_or_else(|e| refused(&e), Answer::Routes),
        Ok(Question::Why(question)) => match known.why(&question) {
            Ok(Ok(explained)) => Answer::Why(Box::new(explained)),
            Ok(Err(error)) => refused(&error),
            Err(error) => refused(&error),
        },
        Ok(Question::Tap(filter)) => match lines.tap(filter) {
            Err(error) => refused(&error),
            Ok(mut events) => loop {
                let mut nothing = [0];
                tokio::select! {
                    event = events.recv() => {
                        let Some(event) = event else { return Ok(()) };
                        send(&mut stream, &Answer::Event(Box::new(event))).await?;
                    }
                    // Nothing more is asked over it: that is its end.
                    _ = stream.read(&mut nothing) => return Ok(()),
                }
            },
        },
    };
    send(&mut stream, &answer).await
}

async fn send(stream: &mut UnixStream, answer: &Answer) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    timeout(PATIENCE, stream.write_all(&line)).await?
}
