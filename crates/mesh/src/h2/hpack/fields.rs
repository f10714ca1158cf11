//! A list of headers.

/// A header: a name in lower case, and a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name; one that begins with a colon is a pseudo-header (RFC 9113, 8.3).
    pub name: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// Whoever sent it wants it in no table, neither here nor further on (RFC 7541, 6.2.3, 7.1.3).
    pub never: bool,
}

impl<'a> Field<'a> {
    /// One that may be in tables.
    #[must_use]
    pub fn new(name: &'a (impl AsRef<[u8]> + ?Sized), value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self { name: name.as_ref(), value: value.as_ref(), never: false }
    }
}

/// Headers one behind the other. It is to be filled again: its memory stays.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    bytes: Vec<u8>,
    places: Vec<Place>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    start: usize,
    colon: usize,
    end: usize,
    never: bool,
}

impl Fields {
    /// What each header costs beside its bytes (RFC 7541, 4.1).
    pub const EACH: usize = 32;

    /// Takes all away.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.places.clear();
    }

    /// Puts one behind the others.
    pub fn push(&mut self, field: Field<'_>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(field.name);
        let colon = self.bytes.len();
        self.bytes.extend_from_slice(field.value);
        self.places.push(Place { start, colon, end: self.bytes.len(), never: field.never });
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The size that SETTINGS_MAX_HEADER_LIST_SIZE bounds (RFC 9113, 6.5.2).
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len() + Self::EACH * self.places.len()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Field<'_>> + Clone {
        self.places.iter().map(|place| self.at(place))
    }

    /// The first of a name, which is in lower case.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find(|field| field.name == name).map(|field| field.value)
    }

    fn at(&self, place: &Place) -> Field<'_> {
        Field {
            name: self.bytes.get(place.start..place.colon).unwrap_or_default(),
            value: self.bytes.get(place.colon..place.end).unwrap_or_default(),
            never: place.never,
        }
    }

    /// The bytes, for who writes a name and then a value behind all others and calls [`Fields::wrote`].
    pub(super) fn open(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// What was written from `start` on is a header whose value begins at `colon`.
    pub(super) fn wrote(&mut self, start: usize, colon: usize, never: bool) -> Field<'_> {
        let place = Place { start, colon, end: self.bytes.len(), never };
        self.places.push(place);
        self.at(&place)
    }

    /// Takes the last one away.
    pub(super) fn pop(&mut self) {
        if let Some(place) = self.places.pop() {
            self.bytes.truncate(place.start);
        }
    }
}
