//! DNS messages (RFC 1035, 4): the question we send and the answers we understand (A, AAAA, CNAME).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const HEADER: usize = 12;
const CLASS_INTERNET: u16 = 1;
const RECURSION_DESIRED: u16 = 0x0100;
const RESPONSE: u16 = 0x8000;
const TRUNCATED: u16 = 0x0200;
const LABEL_MAX: usize = 63;
const NAME_MAX: usize = 253;
/// More pointers than a name can have labels.
const POINTERS_MAX: usize = 128;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
}

impl Kind {
    fn number(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Aaaa => 28,
        }
    }
}

/// A response, reduced to what a stub resolver needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Echo of the query's id.
    pub id: u16,
    /// The answer did not fit: ask again over TCP.
    pub truncated: bool,
    /// 0 is success, 3 says that the name does not exist.
    pub code: u8,
    /// Name (lower case) and type number of the question answered.
    pub question: Option<(String, u16)>,
    /// The answer section.
    pub answers: Vec<Record>,
}

/// One record of an answer: its owner's name and its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Lower case, without the last dot.
    pub owner: String,
    /// What is known about the owner.
    pub data: Data,
}

/// Data of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// A or AAAA.
    Address(IpAddr),
    /// CNAME.
    Alias(String),
}

/// Why bytes are not a response, or a name not one that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The bytes end inside a field.
    #[error("message ends too early")]
    Short,
    /// A label or a name is too long, empty, or not a plain label.
    #[error("name breaks RFC 1035")]
    Name,
    /// A query, not a response.
    #[error("message is not a response")]
    NotResponse,
}

/// A recursive query for one name and type.
pub fn encode_query(id: u16, name: &str, kind: Kind) -> Result<Vec<u8>, MessageError> {
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(MessageError::Name);
    }
    let mut bytes = Vec::with_capacity(HEADER + name.len() + 6);
    for field in [id, RECURSION_DESIRED, 1, 0, 0, 0] {
        bytes.extend(field.to_be_bytes());
    }
    for label in name.split('.') {
        let length = u8::try_from(label.len()).map_err(|_| MessageError::Name)?;
        if label.is_empty() || label.len() > LABEL_MAX {
            return Err(MessageError::Name);
        }
        bytes.push(length);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.number().to_be_bytes());
    bytes.extend(CLASS_INTERNET.to_be_bytes());
    Ok(bytes)
}

/// Reads a response; records of other types are skipped.
pub fn decode_response(bytes: &[u8]) -> Result<Response, MessageError> {
    let mut reader = Reader { bytes, at: 0 };
    let (id, flags) = (reader.u16()?, reader.u16()?);
    if flags & RESPONSE == 0 {
        return Err(MessageError::NotResponse);
    }
    let (questions, answers) = (reader.u16()?, reader.u16()?);
    reader.skip(4)?;
    let mut question = None;
    for _ in 0..questions {
        let name = reader.name()?;
        question = Some((name, reader.u16()?));
        reader.skip(2)?;
    }
    let truncated = flags & TRUNCATED != 0;
    let mut records = Vec::new();
    for _ in 0..answers {
        match reader.record() {
            Ok(record) => records.extend(record),
            // A cut message may end inside a record; it is asked for again anyway.
            Err(_) if truncated => break,
            Err(error) => return Err(error),
        }
    }
    Ok(Response { id, truncated, code: flags.to_be_bytes()[1] & 0x0f, question, answers: records })
}

impl Response {
    /// Whether this answers the query `id` for `name`.
    pub fn answers(&self, id: u16, name: &str, kind: Kind) -> bool {
        let asked =
            |(asked, number): &(String, u16)| asked.eq_ignore_ascii_case(name) && *number == kind.number();
        // Some servers leave the question out of an error.
        self.id == id && self.question.as_ref().map_or(self.code != 0, asked)
    }

    /// The addresses of `name`, aliases followed in the order in which they stand.
    pub fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let mut owner = name.to_ascii_lowercase();
        let mut found = Vec::new();
        for record in &self.answers {
            match &record.data {
                Data::Alias(target) if record.owner == owner => owner.clone_from(target),
                Data::Address(address) if record.owner == owner => found.push(*address),
                _ => {}
            }
        }
        found
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], MessageError> {
        let end = self.at.checked_add(count).ok_or(MessageError::Short)?;
        let taken = self.bytes.get(self.at..end).ok_or(MessageError::Short)?;
        self.at = end;
        Ok(taken)
    }

    fn skip(&mut self, count: usize) -> Result<(), MessageError> {
        self.take(count).map(drop)
    }

    fn u8(&mut self) -> Result<u8, MessageError> {
        self.take(1)?.first().copied().ok_or(MessageError::Short)
    }

    fn u16(&mut self) -> Result<u16, MessageError> {
        Ok(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    /// A name, its pointers followed; each must point backwards, so that reading ends.
    fn name(&mut self) -> Result<String, MessageError> {
        let mut name = String::new();
        let mut reader = Reader { bytes: self.bytes, at: self.at };
        let mut resume = None;
        for _ in 0..POINTERS_MAX + NAME_MAX {
            let start = reader.at;
            match reader.u8()? {
                0 => {
                    self.at = resume.unwrap_or(reader.at);
                    return Ok(name);
                }
                length @ 1..=63 => push_label(&mut name, reader.take(usize::from(length))?)?,
                high @ 0xc0..=0xff => {
                    let target = usize::from(u16::from_be_bytes([high & 0x3f, reader.u8()?]));
                    resume = resume.or(Some(reader.at));
                    if target >= start {
                        return Err(MessageError::Name);
                    }
                    reader.at = target;
                }
                _ => return Err(MessageError::Name),
            }
        }
        Err(MessageError::Name)
    }

    fn record(&mut self) -> Result<Option<Record>, MessageError> {
        let owner = self.name()?;
        let (number, class) = (self.u16()?, self.u16()?);
        self.skip(4)?;
        let length = usize::from(self.u16()?);
        let start = self.at;
        let data = self.take(length)?;
        if class != CLASS_INTERNET {
            return Ok(None);
        }
        let data = match number {
            1 => <[u8; 4]>::try_from(data).ok().map(|octets| Data::Address(Ipv4Addr::from(octets).into())),
            28 => <[u8; 16]>::try_from(data).ok().map(|octets| Data::Address(Ipv6Addr::from(octets).into())),
            5 => Some(Data::Alias(Reader { bytes: self.bytes, at: start }.name()?)),
            _ => None,
        };
        Ok(data.map(|data| Record { owner, data }))
    }
}

fn push_label(name: &mut String, label: &[u8]) -> Result<(), MessageError> {
    if !name.is_empty() {
        name.push('.');
    }
    // A dot or a control character inside a label would make another name of it.
    if !label.iter().all(|b| b.is_ascii_graphic() && *b != b'.') || name.len() + label.len() > NAME_MAX {
        return Err(MessageError::Name);
    }
    name.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
    Ok(())
}
