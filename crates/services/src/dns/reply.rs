use hickory_proto::op::{Edns, Message, OpCode, ResponseCode};

use super::Outcome;
use super::request::Request;

/// Larger datagrams are torn on their way somewhere, and get lost there (DNS flag day 2020).
pub const LARGEST_DATAGRAM: u16 = 1232;
/// What everybody takes.
const SMALLEST_DATAGRAM: u16 = 512;

/// What an answer says of itself.
pub(super) fn edns(dnssec: bool) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(LARGEST_DATAGRAM).set_dnssec_ok(dnssec);
    edns
}

/// The bytes of a reply. Of one that is too long for a datagram as much as fits, with the word that it is not all.
pub(super) fn encode(request: &Request, mut outcome: Outcome, datagram: bool) -> Vec<u8> {
    let room = match (datagram, request.edns) {
        (false, _) => u16::MAX,
        (true, None) => SMALLEST_DATAGRAM,
        (true, Some(said)) => said.clamp(SMALLEST_DATAGRAM, LARGEST_DATAGRAM),
    };
    spread(request.id, &mut outcome);
    let mut message = message(request, outcome);
    let fits = |message: &Message| message.to_vec().ok().filter(|bytes| bytes.len() <= usize::from(room));
    if let Some(bytes) = fits(&message) {
        return bytes;
    }
    message.additionals.clear();
    if let Some(bytes) = fits(&message) {
        return bytes;
    }
    message.metadata.truncation = true;
    message.authorities.clear();
    let all = std::mem::take(&mut message.answers);
    let (mut most, mut few) = (all.len(), 0);
    let mut best = fits(&message);
    while few < most {
        let some = (few + most).div_ceil(2);
        message.answers = all.iter().take(some).cloned().collect();
        match fits(&message) {
            Some(bytes) => (few, best) = (some, Some(bytes)),
            None => most = some - 1,
        }
    }
    let empty = || Message::error_msg(request.id, OpCode::Query, ResponseCode::ServFail).to_vec();
    best.or_else(|| empty().ok()).unwrap_or_default()
}

/// Has each address be the first one at times: most clients take that.
fn spread(id: u16, outcome: &mut Outcome) {
    let answers = &mut outcome.answers;
    if let Some(first) = answers.first()
        && answers
            .iter()
            .all(|record| record.record_type() == first.record_type() && record.name == first.name)
    {
        let by = usize::from(id) % answers.len();
        answers.rotate_left(by);
    }
}

fn message(request: &Request, outcome: Outcome) -> Message {
    let mut message = Message::response(request.id, OpCode::Query);
    message.metadata.response_code = outcome.code;
    message.metadata.authoritative = outcome.authoritative;
    message.metadata.recursion_desired = request.recursion_desired;
    message.metadata.checking_disabled = request.checking_disabled;
    message.metadata.recursion_available = true;
    message.queries.push(request.query.clone());
    message.answers = outcome.answers;
    message.authorities = outcome.authorities;
    message.additionals = outcome.additionals;
    if request.edns.is_some() {
        message.set_edns(edns(request.dnssec));
    }
    message
}
