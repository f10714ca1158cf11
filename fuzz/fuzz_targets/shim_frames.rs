//! Any bytes on a shim's socket, in pieces of any size: no panic, no frame larger than allowed, and what is read is
//! what was written. Every message is tried on every payload.

use prost::Message;
use shim::protocol::task::{
    BootstrapParams, CloseTask, Connected, CreateTask, ExecTask, Forward, KillTask, ResizeTask, TaskPid,
    TaskProcess, TaskWaited, UpdateTask,
};
use shim::protocol::{
    AttachRequest, ContainerEvent, ContainerRequest, Containers, CreateRequest, ExecRequest, Exited, Frame,
    Input, KillRequest, MAX_PAYLOAD, Output, Pids, ProcessRequest, Request, ResizeRequest, Response,
    SandboxReply, SandboxRequest, Started, State, StopRequest, UpdateRequest,
};

/// The bytes as a message; what was read is written and read the same.
fn message<M: Message + Default + PartialEq>(bytes: &[u8]) {
    if let Ok(message) = M::decode(bytes) {
        assert!(M::decode(message.encode_to_vec().as_slice()).is_ok_and(|again| again == message));
    }
}

fn messages(bytes: &[u8]) {
    message::<Request>(bytes);
    message::<Response>(bytes);
    message::<CreateRequest>(bytes);
    message::<Started>(bytes);
    message::<ProcessRequest>(bytes);
    message::<ExecRequest>(bytes);
    message::<AttachRequest>(bytes);
    message::<Input>(bytes);
    message::<Output>(bytes);
    message::<Exited>(bytes);
    message::<KillRequest>(bytes);
    message::<StopRequest>(bytes);
    message::<ResizeRequest>(bytes);
    message::<State>(bytes);
    message::<Pids>(bytes);
    message::<SandboxRequest>(bytes);
    message::<SandboxReply>(bytes);
    message::<ContainerRequest>(bytes);
    message::<ContainerEvent>(bytes);
    message::<Containers>(bytes);
    message::<UpdateRequest>(bytes);
    message::<BootstrapParams>(bytes);
    message::<CreateTask>(bytes);
    message::<TaskProcess>(bytes);
    message::<ExecTask>(bytes);
    message::<ResizeTask>(bytes);
    message::<KillTask>(bytes);
    message::<CloseTask>(bytes);
    message::<UpdateTask>(bytes);
    message::<Connected>(bytes);
    message::<Forward>(bytes);
    message::<TaskPid>(bytes);
    message::<TaskWaited>(bytes);
}

pub fn run(bytes: &[u8]) {
    let Some((&size, wire)) = bytes.split_first() else { return };
    let (mut buffer, mut whole, mut pieces) = (Vec::new(), wire.to_vec(), Vec::new());
    'wire: for piece in wire.chunks(usize::from(size).max(1)) {
        buffer.extend(piece);
        loop {
            match Frame::decode(&mut buffer) {
                Ok(Some(frame)) => pieces.push(frame),
                Ok(None) => break,
                Err(_) => break 'wire,
            }
        }
    }
    let mut written = Vec::new();
    for frame in &pieces {
        assert!(frame.payload.len() <= MAX_PAYLOAD);
        frame.encode(&mut written);
        messages(&frame.payload);
        if let Ok(request) = Request::decode(frame.payload.as_slice()) {
            messages(&request.payload);
        }
    }
    assert!(wire.starts_with(&written), "frames are read as they were written");
    for frame in pieces {
        assert_eq!(Frame::decode(&mut whole), Ok(Some(frame)), "pieces do not matter");
    }
}
