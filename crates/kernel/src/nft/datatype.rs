use super::uapi::NFT_DATA_VERDICT;

/// One field of a key or value: its number among nft's data types (how `nft list` prints it) and its length in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    id: u32,
    len: usize,
}

impl Field {
    /// An IPv4 address.
    pub const IPV4: Self = Self { id: 7, len: 4 };
    /// An IPv6 address.
    pub const IPV6: Self = Self { id: 8, len: 16 };
    /// A link-layer address.
    pub const ETHER: Self = Self { id: 9, len: 6 };
    /// A protocol above IP: tcp, udp, sctp.
    pub const PROTOCOL: Self = Self { id: 12, len: 1 };
    /// A port.
    pub const SERVICE: Self = Self { id: 13, len: 2 };
    /// A packet mark.
    pub const MARK: Self = Self { id: 19, len: 4 };
    /// An interface's number, in the machine's order.
    pub const IFINDEX: Self = Self { id: 20, len: 4 };
    /// An interface's name.
    pub const IFNAME: Self = Self { id: 41, len: 16 };
}

/// Bits that a field takes in the number of a concatenated type.
const TYPE_BITS: u32 = 6;
const TYPE_MASK: u32 = (1 << TYPE_BITS) - 1;

/// The number nft knows a concatenation by.
pub(super) fn concatenation(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |id, field| id << TYPE_BITS | field.id)
}

/// Its length in a register or element: each field of several begins on four bytes.
pub(super) fn length(fields: &[Field]) -> usize {
    match fields {
        [field] => field.len,
        fields => fields.iter().map(|field| field.len.next_multiple_of(4)).sum(),
    }
}

/// The length of each field as it lies in a concatenation.
pub(super) fn field_lengths(fields: &[Field]) -> impl Iterator<Item = usize> {
    fields.iter().map(|field| field.len)
}

/// Where the field `wanted` begins in a concatenation of type `id`; none if it is not there or a field is unknown.
pub(super) fn offset_of(id: u32, wanted: Field) -> Option<usize> {
    const KNOWN: [Field; 8] = [
        Field::IPV4,
        Field::IPV6,
        Field::ETHER,
        Field::PROTOCOL,
        Field::SERVICE,
        Field::MARK,
        Field::IFINDEX,
        Field::IFNAME,
    ];
    let mut offset = 0;
    let fields =
        (0..u32::BITS / TYPE_BITS + 1).rev().map(|i| id.checked_shr(i * TYPE_BITS).unwrap_or(0) & TYPE_MASK);
    for id in fields.skip_while(|id| *id == 0) {
        let field = KNOWN.iter().find(|known| known.id == id)?;
        if *field == wanted {
            return Some(offset);
        }
        offset += field.len.next_multiple_of(4);
    }
    None
}

/// A key or value being put together from fields, each padded to four bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Value(Vec<u8>);

impl Value {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn push(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        let padded = self.0.len().next_multiple_of(4);
        self.0.resize(padded, 0);
        self
    }

    /// Appends an address.
    #[must_use]
    pub fn address(self, address: std::net::IpAddr) -> Self {
        match address {
            std::net::IpAddr::V4(v4) => self.push(&v4.octets()),
            std::net::IpAddr::V6(v6) => self.push(&v6.octets()),
        }
    }

    /// Appends a protocol number.
    #[must_use]
    pub fn protocol(self, number: u8) -> Self {
        self.push(&[number])
    }

    /// Appends a port.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        self.push(&port.to_be_bytes())
    }

    /// Appends a link-layer address.
    #[must_use]
    pub fn mac(self, mac: crate::netlink::Mac) -> Self {
        self.push(&mac.0)
    }

    /// Appends a packet mark, or another number in the machine's order.
    #[must_use]
    pub fn mark(self, number: u32) -> Self {
        self.push(&number.to_ne_bytes())
    }

    /// Appends an interface's name, cut to the 15 bytes that one can have.
    #[must_use]
    pub fn ifname(self, name: &str) -> Self {
        let mut bytes = [0; 16];
        for (to, from) in bytes.iter_mut().take(15).zip(name.bytes()) {
            *to = from;
        }
        self.push(&bytes)
    }

    /// The bytes as they lie in an element of a concatenated key.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// What a map's elements lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// Values of these fields.
    Fields(&'a [Field]),
    /// Verdicts.
    Verdict,
}

impl Target<'_> {
    pub(super) fn id(self) -> u32 {
        match self {
            Self::Fields(fields) => concatenation(fields),
            Self::Verdict => NFT_DATA_VERDICT,
        }
    }

    pub(super) fn length(self) -> usize {
        match self {
            Self::Fields(fields) => length(fields),
            // struct nft_verdict is opaque; the kernel ignores the length for verdicts.
            Self::Verdict => 16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_fields() {
        let id = concatenation(&[Field::IPV6, Field::PROTOCOL, Field::SERVICE]);
        assert_eq!(offset_of(id, Field::IPV6), Some(0));
        assert_eq!(offset_of(id, Field::PROTOCOL), Some(16));
        assert_eq!(offset_of(id, Field::SERVICE), Some(20));
        assert_eq!(offset_of(id, Field::MARK), None);
        for id in [0, 63, u32::MAX, NFT_DATA_VERDICT] {
            assert_eq!(offset_of(id, Field::SERVICE), None);
        }
        assert_eq!(length(&[Field::PROTOCOL, Field::SERVICE]), 8);
        assert_eq!(length(&[Field::SERVICE]), 2);
    }
}
