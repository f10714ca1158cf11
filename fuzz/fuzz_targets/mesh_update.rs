//! What a mesh's control plane and its nodes send each other: taken or refused, and what is taken is sent again as the same.

use meshwire::contract::v1::{FollowRequest, SignRequest, Update};
use meshwire::contract::{Gathering, Packed, Validate, parts};
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
    let packed = Packed::of(&gathered.delta).expect("what was read can be written");
    let mut again = Gathering::default();
    let mut whole = None;
    for part in parts(gathered.revision, gathered.whole, packed, gathered.roots.clone()) {
        whole = again.take(part).expect("what was written can be read");
    }
    assert_eq!(whole, Some(gathered));
}
