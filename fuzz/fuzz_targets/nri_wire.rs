//! Any bytes from an NRI plugin, in pieces of any size: no panic, no piece larger than allowed, and what is read does not
//! depend on the pieces. Every message that a plugin sends is tried on every payload.

use cri::plugin::nri::wire::{
    ConfigureResponse, CreateContainerResponse, MAX_CHUNK, RegisterPluginRequest, StopContainerResponse,
    SynchronizeResponse, UpdateContainerResponse, UpdateContainersRequest,
    ValidateContainerAdjustmentResponse, decode, encode,
};
use prost::Message;
use shim::protocol::{Frame, Request, Response};

/// The bytes as a message; what was read is written and read the same.
fn message<M: Message + Default + PartialEq>(bytes: &[u8]) {
    if let Ok(message) = M::decode(bytes) {
        assert!(M::decode(message.encode_to_vec().as_slice()).is_ok_and(|again| again == message));
    }
}

fn messages(bytes: &[u8]) {
    message::<RegisterPluginRequest>(bytes);
    message::<UpdateContainersRequest>(bytes);
    message::<ConfigureResponse>(bytes);
    message::<SynchronizeResponse>(bytes);
    message::<CreateContainerResponse>(bytes);
    message::<UpdateContainerResponse>(bytes);
    message::<StopContainerResponse>(bytes);
    message::<ValidateContainerAdjustmentResponse>(bytes);
}

pub fn run(bytes: &[u8]) {
    let Some((&size, wire)) = bytes.split_first() else { return };
    let (mut buffer, mut whole, mut pieces) = (Vec::new(), wire.to_vec(), Vec::new());
    'wire: for part in wire.chunks(usize::from(size).max(1)) {
        buffer.extend(part);
        loop {
            match decode(&mut buffer) {
                Ok(Some(piece)) => pieces.push(piece),
                Ok(None) => break,
                Err(_) => break 'wire,
            }
        }
    }
    for piece in pieces {
        assert!(piece.bytes.len() <= MAX_CHUNK);
        messages(&piece.bytes);
        let mut frames = piece.bytes.clone();
        while let Ok(Some(frame)) = Frame::decode(&mut frames) {
            if let Ok(request) = Request::decode(frame.payload.as_slice()) {
                messages(&request.payload);
            }
            if let Ok(response) = Response::decode(frame.payload.as_slice()) {
                messages(&response.payload);
            }
        }
        let (mut again, mut joined) = (Vec::new(), Vec::new());
        encode(piece.connection, &piece.bytes, &mut again);
        while let Ok(Some(part)) = decode(&mut again) {
            assert_eq!(part.connection, piece.connection);
            joined.extend(part.bytes);
        }
        assert_eq!(joined, piece.bytes, "what is written is read");
        assert_eq!(decode(&mut whole), Ok(Some(piece)), "parts do not matter");
    }
}
