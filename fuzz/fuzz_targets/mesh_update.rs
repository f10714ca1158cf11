//! What a mesh's control plane and its nodes send each other: taken or refused.

use meshwire::contract::v1::{FollowRequest, SignRequest, Update};
use meshwire::contract::{Gathering, Packed, Validate};
use prost::Message;

fn request<R: Message + Default + Validate>(bytes: &[u8]) {
    let Ok(request) = R::decode(bytes) else { return };
    let Err(error) = request.validate() else { return };
    assert!(error.field.as_deref().is_some_and(|field| !field.is_empty()), "{error}");
    assert!(error.message.len() <= 4096, "{} bytes", error.message.len());
}

pub fn run(bytes: &[u8]) {
    request::<FollowRequest>(bytes);
    request::<SignRequest>(bytes);
    let Ok(update) = Update::decode(bytes) else { return };
    let Ok(Some(gathered)) = Gathering::default().take(update) else { return };
    // That it is sent again as the same is for the crate's own tests until this has been seen to run for long.
    let _written = Packed::of(&gathered.delta);
}
