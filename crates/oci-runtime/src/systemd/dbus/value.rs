//! Types and values ("Type System").

use std::fmt;
use std::sync::Arc;

use super::Malformed;

/// The longest signature.
pub(super) const MAX_SIGNATURE: usize = 255;
/// How deep arrays and structs nest, each.
const MAX_NESTING: u32 = 32;

/// A single complete type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// `y`
    Byte,
    /// `b`
    Bool,
    /// `n`
    I16,
    /// `q`
    U16,
    /// `i`
    I32,
    /// `u`
    U32,
    /// `x`
    I64,
    /// `t`
    U64,
    /// `d`
    Double,
    /// `s`
    String,
    /// `o`
    ObjectPath,
    /// `g`
    Signature,
    /// `h`: the index of a descriptor that comes with the message.
    Descriptor,
    /// `v`
    Variant,
    /// `a` and the elements' type
    Array(Arc<Type>),
    /// `(`, its fields' types, `)`
    Struct(Vec<Type>),
    /// `{`, a basic type, a type, `}`; only as an array's element
    Entry(Box<(Type, Type)>),
}

impl Type {
    /// The types of a signature, in a row.
    pub fn parse_all(signature: &str) -> Result<Vec<Self>, Malformed> {
        if signature.len() > MAX_SIGNATURE {
            return Err(Malformed("a signature of more than 255 bytes"));
        }
        let mut letters = signature.as_bytes();
        let mut types = Vec::new();
        while !letters.is_empty() {
            types.push(Self::take(&mut letters, 0, 0)?);
        }
        Ok(types)
    }

    /// The type of a signature that has just one.
    pub fn parse(signature: &str) -> Result<Self, Malformed> {
        let types = Self::parse_all(signature)?;
        let [one]: [Self; 1] = types.try_into().map_err(|_| Malformed("a variant of not one type"))?;
        Ok(one)
    }

    fn take(letters: &mut &[u8], arrays: u32, structs: u32) -> Result<Self, Malformed> {
        let (&letter, rest) =
            letters.split_first().ok_or(Malformed("a signature that ends within a type"))?;
        *letters = rest;
        Ok(match letter {
            b'a' if arrays == MAX_NESTING => return Err(Malformed("arrays nest too deep")),
            b'a' if letters.first() == Some(&b'{') => {
                *letters = &letters[1..];
                Self::Array(Arc::new(Self::take_entry(letters, arrays + 1, structs)?))
            }
            b'a' => Self::Array(Arc::new(Self::take(letters, arrays + 1, structs)?)),
            b'(' if structs == MAX_NESTING => return Err(Malformed("structs nest too deep")),
            b'(' => {
                let mut fields = Vec::new();
                while letters.first() != Some(&b')') {
                    fields.push(Self::take(letters, arrays, structs + 1)?);
                }
                *letters = &letters[1..];
                if fields.is_empty() {
                    return Err(Malformed("a struct without fields"));
                }
                Self::Struct(fields)
            }
            letter => Self::basic(letter).ok_or(Malformed("a signature with an unknown type"))?,
        })
    }

    fn take_entry(letters: &mut &[u8], arrays: u32, structs: u32) -> Result<Self, Malformed> {
        if structs == MAX_NESTING {
            return Err(Malformed("structs nest too deep"));
        }
        let key = Self::take(letters, arrays, structs + 1)?;
        if !key.is_basic() {
            return Err(Malformed("a dictionary whose key is not of a basic type"));
        }
        let value = Self::take(letters, arrays, structs + 1)?;
        if letters.first() != Some(&b'}') {
            return Err(Malformed("a dictionary's entry of not two types"));
        }
        *letters = &letters[1..];
        Ok(Self::Entry(Box::new((key, value))))
    }

    /// The type of one letter alone.
    fn basic(letter: u8) -> Option<Self> {
        Some(match letter {
            b'y' => Self::Byte,
            b'b' => Self::Bool,
            b'n' => Self::I16,
            b'q' => Self::U16,
            b'i' => Self::I32,
            b'u' => Self::U32,
            b'x' => Self::I64,
            b't' => Self::U64,
            b'd' => Self::Double,
            b's' => Self::String,
            b'o' => Self::ObjectPath,
            b'g' => Self::Signature,
            b'h' => Self::Descriptor,
            b'v' => Self::Variant,
            _ => return None,
        })
    }

    fn is_basic(&self) -> bool {
        !matches!(self, Self::Variant | Self::Array(_) | Self::Struct(_) | Self::Entry(_))
    }

    /// What a value's offset in the message is a multiple of.
    pub(super) fn alignment(&self) -> usize {
        match self {
            Self::Byte | Self::Signature | Self::Variant => 1,
            Self::I16 | Self::U16 => 2,
            Self::I64 | Self::U64 | Self::Double | Self::Struct(_) | Self::Entry(_) => 8,
            _ => 4,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match self {
            Self::Byte => "y",
            Self::Bool => "b",
            Self::I16 => "n",
            Self::U16 => "q",
            Self::I32 => "i",
            Self::U32 => "u",
            Self::I64 => "x",
            Self::U64 => "t",
            Self::Double => "d",
            Self::String => "s",
            Self::ObjectPath => "o",
            Self::Signature => "g",
            Self::Descriptor => "h",
            Self::Variant => "v",
            Self::Array(element) => return write!(f, "a{element}"),
            Self::Struct(fields) => {
                f.write_str("(")?;
                fields.iter().try_for_each(|field| field.fmt(f))?;
                return f.write_str(")");
            }
            Self::Entry(entry) => return write!(f, "{{{}{}}}", entry.0, entry.1),
        };
        f.write_str(letter)
    }
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each is the value of the type of its name")]
pub enum Value {
    Byte(u8),
    Bool(bool),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    Double(f64),
    String(String),
    ObjectPath(String),
    Signature(String),
    Descriptor(u32),
    Variant(Box<Value>),
    /// The elements' type, shared with all arrays of the kind in a message, and they.
    Array(Arc<Type>, Vec<Value>),
    Struct(Vec<Value>),
    Entry(Box<(Value, Value)>),
}

impl Value {
    /// Its type.
    pub fn kind(&self) -> Type {
        match self {
            Self::Byte(_) => Type::Byte,
            Self::Bool(_) => Type::Bool,
            Self::I16(_) => Type::I16,
            Self::U16(_) => Type::U16,
            Self::I32(_) => Type::I32,
            Self::U32(_) => Type::U32,
            Self::I64(_) => Type::I64,
            Self::U64(_) => Type::U64,
            Self::Double(_) => Type::Double,
            Self::String(_) => Type::String,
            Self::ObjectPath(_) => Type::ObjectPath,
            Self::Signature(_) => Type::Signature,
            Self::Descriptor(_) => Type::Descriptor,
            Self::Variant(_) => Type::Variant,
            Self::Array(element, _) => Type::Array(Arc::clone(element)),
            Self::Struct(fields) => Type::Struct(fields.iter().map(Self::kind).collect()),
            Self::Entry(entry) => Type::Entry(Box::new((entry.0.kind(), entry.1.kind()))),
        }
    }

    /// An array.
    pub fn array(element: Type, elements: impl IntoIterator<Item = Self>) -> Self {
        Self::Array(Arc::new(element), elements.into_iter().collect())
    }

    /// A string.
    pub fn text(text: impl Into<String>) -> Self {
        Self::String(text.into())
    }

    /// The text of a string or an object path.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::String(text) | Self::ObjectPath(text) => Some(text),
            _ => None,
        }
    }
}

/// Whether `path` is an object's: `/`, or names joined by slashes.
pub(super) fn is_object_path(path: &str) -> bool {
    let good = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    path == "/" || path.strip_prefix('/').is_some_and(|names| names.split('/').all(good))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_types() {
        for good in ["", "s", "a(sv)", "ssa(sv)a(sa(sv))", "a{sv}", "aay", "(i(ss)ah)", "ybnqiuxtdsoghv"] {
            let types = Type::parse_all(good).unwrap();
            assert_eq!(types.iter().map(Type::to_string).collect::<String>(), good);
        }
        let deep = "a".repeat(33) + "y";
        let nested = "(".repeat(33) + "y" + &")".repeat(33);
        for bad in ["a", "(", "()", "(s", "{sv}", "a{vs}", "a{s}", "a{sss}", "z", ")", "s)", &deep, &nested] {
            assert!(Type::parse_all(bad).is_err(), "{bad}");
        }
        assert!(Type::parse_all(&"y".repeat(256)).is_err());
        assert!(Type::parse("ss").is_err());
    }

    #[test]
    fn object_paths_have_no_empty_name() {
        assert!(["/", "/a", "/a/b_1"].into_iter().all(is_object_path));
        assert!(!["", "a", "//", "/a/", "/a-b", "/\u{e4}"].into_iter().any(is_object_path));
    }
}
