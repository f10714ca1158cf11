//! ExecSync: a command, its output and its code.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use shim::protocol::{EXEC, ExecRequest, Exited, KILL, KillRequest, Output};
use tokio::sync::oneshot;

use crate::contract::Error;
use crate::contract::v1::{ExecSyncRequest, ExecSyncResponse};
use crate::plugin::node::{Node, blocking};
use crate::plugin::shims::{Connection, Event, Stream};
use crate::plugin::{exec, ids};

/// Bytes of both streams together that are kept: a message holds 16 MiB. What comes after is dropped.
const LIMIT: usize = (16 << 20) - 1024;
const SIGKILL: i32 = 9;

impl Node {
    /// Runs a command in a container and returns what it wrote. At the timeout it is killed.
    pub(crate) async fn exec_sync(
        self: &Arc<Self>,
        request: ExecSyncRequest,
    ) -> Result<ExecSyncResponse, Error> {
        let container = self.state.container(&request.container_id)?;
        container.must_run()?;
        if request.cmd.is_empty() {
            return Err(Error::invalid("cmd", "is empty: give a command"));
        }
        let (node, target, command) = (Arc::clone(self), Arc::clone(&container), request.cmd);
        let process = blocking(move || {
            let process = exec::process(&node, &target, command, false)?;
            serde_json::to_vec(&process)
                .map_err(|e| Error::internal(format!("cannot write the process: {e}")))
        });
        let exec_id = ids::exec_id()?;
        let (process, shim) = (process.await?, exec::connect(self, &container).await?);
        let asked = ExecRequest {
            exec_id: exec_id.clone(),
            process,
            stdin: false,
            container: container.id().to_owned(),
        };
        let limit = match request.timeout {
            seconds if seconds > 0 => Duration::from_secs(seconds.unsigned_abs()),
            _ => Duration::MAX,
        };
        // A caller that leaves drops this call where it waits: somebody else has to end the process then.
        let (mut answer, answered) = oneshot::channel();
        tokio::spawn(async move {
            let done = run(&shim, &asked, limit, &mut answer).await;
            // Nobody is there any more.
            let _ = answer.send(done);
        });
        answered.await.map_err(|_| Error::internal("a bug ended the command"))?
    }
}

/// Runs the command to its end, to the time limit, or until nobody wants the answer.
async fn run(
    shim: &Connection,
    asked: &ExecRequest,
    limit: Duration,
    answer: &mut oneshot::Sender<Result<ExecSyncResponse, Error>>,
) -> Result<ExecSyncResponse, Error> {
    let id = &asked.container;
    let mut stream = shim.stream(&EXEC, asked).await?;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let ended = tokio::select! {
        ended = tokio::time::timeout(limit, collect(&mut stream, &mut stdout, &mut stderr)) => ended.ok(),
        () = answer.closed() => None,
    };
    if let Some(exited) = ended {
        let exit_code = exited.map_err(|e| cannot(id, &e))?.code;
        return Ok(ExecSyncResponse { stdout: stdout.into(), stderr: stderr.into(), exit_code });
    }
    let kill =
        KillRequest { exec_id: asked.exec_id.clone(), signal: SIGKILL, all: false, container: id.clone() };
    // It may have ended in this moment.
    let _ = shim.call(&KILL, &kill).await;
    let seconds = limit.as_secs();
    let text =
        format!("the command in container {id} timed out: it ran longer than {seconds} s and was killed");
    Err(Error::new(grpc::Code::DeadlineExceeded, text))
}

fn cannot(id: &str, error: &crate::plugin::shims::Error) -> Error {
    Error::internal(format!("cannot run the command in container {id}: {error}"))
}

async fn collect(
    stream: &mut Stream,
    stdout: &mut Vec<u8>,
    stderr: &mut Vec<u8>,
) -> Result<Exited, crate::plugin::shims::Error> {
    loop {
        match stream.next().await {
            Event::Data(bytes) => {
                let output = Output::decode(&*bytes)?;
                let room = LIMIT.saturating_sub(stdout.len() + stderr.len());
                append(stdout, &output.stdout, room);
                append(stderr, &output.stderr, room.saturating_sub(output.stdout.len()));
            }
            Event::End(end) => return Ok(Exited::decode(&*end?)?),
        }
    }
}

fn append(kept: &mut Vec<u8>, more: &[u8], room: usize) {
    kept.extend(more.iter().take(room));
}
