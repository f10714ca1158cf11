use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};

/// A question that can be answered.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) id: u16,
    pub(super) query: Query,
    pub(super) recursion_desired: bool,
    pub(super) checking_disabled: bool,
    /// It knows extended DNS, and takes datagrams of so many bytes.
    pub(super) edns: Option<u16>,
    pub(super) dnssec: bool,
}

/// What bytes are.
#[derive(Debug)]
pub(super) enum Understood {
    /// No request: an answer to it may be answered in turn, for ever.
    Nothing,
    /// One that is answered so.
    Refused(Vec<u8>),
    /// A question.
    Request(Request),
}

/// Bytes of the header.
const HEADER: usize = 12;
/// The bit of its third byte that says that it is an answer.
const RESPONSE: u8 = 0x80;

pub(super) fn understand(bytes: &[u8]) -> Understood {
    let (Some([high, low]), true) = (bytes.first_chunk(), bytes.len() >= HEADER) else {
        return Understood::Nothing;
    };
    let id = u16::from_be_bytes([*high, *low]);
    if bytes.get(2).is_none_or(|flags| flags & RESPONSE != 0) {
        return Understood::Nothing;
    }
    let refused = |op_code, code| refuse(id, op_code, code, None, 0);
    let Ok(message) = Message::from_vec(bytes) else {
        return refused(OpCode::Query, ResponseCode::FormErr);
    };
    let op_code = message.metadata.op_code;
    if message.metadata.message_type != MessageType::Query {
        return Understood::Nothing;
    }
    if op_code != OpCode::Query {
        return refused(op_code, ResponseCode::NotImp);
    }
    let [query] = message.queries.as_slice() else { return refused(op_code, ResponseCode::FormErr) };
    if message.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        // BADVERS is 16: its upper bits are in the extension.
        return refuse(id, op_code, ResponseCode::NoError, Some(query), 1);
    }
    if query.query_class != DNSClass::IN {
        return refuse(id, op_code, ResponseCode::Refused, Some(query), 0);
    }
    if matches!(query.query_type, RecordType::ANY | RecordType::AXFR | RecordType::IXFR | RecordType::OPT) {
        return refuse(id, op_code, ResponseCode::NotImp, Some(query), 0);
    }
    let edns = message.edns.as_ref();
    Understood::Request(Request {
        id,
        query: query.clone(),
        recursion_desired: message.metadata.recursion_desired,
        checking_disabled: message.metadata.checking_disabled,
        edns: edns.map(hickory_proto::op::Edns::max_payload),
        dnssec: edns.is_some_and(|edns| edns.flags().dnssec_ok),
    })
}

fn refuse(id: u16, op_code: OpCode, code: ResponseCode, query: Option<&Query>, high: u8) -> Understood {
    let mut message = Message::error_msg(id, op_code, code);
    message.queries.extend(query.cloned());
    if high > 0 {
        let mut edns = super::reply::edns(false);
        edns.set_rcode_high(high);
        message.set_edns(edns);
    }
    message.to_vec().map_or(Understood::Nothing, Understood::Refused)
}
