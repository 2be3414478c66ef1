//! Typed values that travel beside a message's body.

use std::str::FromStr;

/// A value of a message attribute. The three kinds are kept apart on every kind of queue.
///
/// # Examples
///
/// ```
/// use sandhog_guest::AttributeValue;
///
/// assert_eq!(AttributeValue::from("fast"), AttributeValue::Text("fast".to_owned()));
/// assert_eq!(AttributeValue::from(640_u32), AttributeValue::Number("640".to_owned()));
/// assert_eq!(AttributeValue::number("-12.50").as_number::<f64>(), Some(-12.5));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeValue {
    /// Unicode text.
    Text(String),
    /// A decimal number in text form, such as `-12.50`. It stays text so that no digit is lost on the way.
    Number(String),
    /// Any bytes.
    Binary(Vec<u8>),
}

impl AttributeValue {
    /// Makes a number from its decimal text, such as `-12.50`.
    ///
    /// Integers convert with `from`. There is no conversion from floats, because `0.1 + 0.2` has no
    /// short decimal form and infinity has none at all: write the digits that are meant.
    pub fn number(decimal: impl Into<String>) -> Self {
        Self::Number(decimal.into())
    }

    /// Returns the text, or `None` if this is a number or binary.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(_) | Self::Binary(_) => None,
        }
    }

    /// Returns the number as a `T`, or `None` if this is not a number or no `T`, such as `1.5` for a `u32`.
    pub fn as_number<T: FromStr>(&self) -> Option<T> {
        match self {
            Self::Number(decimal) => decimal.parse().ok(),
            Self::Text(_) | Self::Binary(_) => None,
        }
    }

    /// Returns the bytes, or `None` if this is text or a number.
    pub fn as_binary(&self) -> Option<&[u8]> {
        match self {
            Self::Binary(bytes) => Some(bytes),
            Self::Text(_) | Self::Number(_) => None,
        }
    }
}

impl From<&str> for AttributeValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for AttributeValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&[u8]> for AttributeValue {
    fn from(bytes: &[u8]) -> Self {
        Self::Binary(bytes.to_vec())
    }
}

impl From<Vec<u8>> for AttributeValue {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes)
    }
}

macro_rules! from_integers {
    ($($integer:ty),*) => {$(
        impl From<$integer> for AttributeValue {
            fn from(number: $integer) -> Self {
                Self::Number(number.to_string())
            }
        }
    )*};
}
from_integers!(i8, i16, i32, i64, u8, u16, u32, u64, usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_only_as_the_kind_that_it_is() {
        let number = AttributeValue::from(7_u8);
        assert_eq!(number.as_number::<u32>(), Some(7));
        assert_eq!((number.as_text(), number.as_binary()), (None, None));
        let text = AttributeValue::from("7");
        assert_eq!((text.as_text(), text.as_number::<u32>()), (Some("7"), None));
        let binary = AttributeValue::from(vec![7]);
        assert_eq!((binary.as_binary(), binary.as_text()), (Some([7].as_slice()), None));
    }

    #[test]
    fn a_number_that_does_not_fit_the_type_is_none() {
        assert_eq!(AttributeValue::from(-1_i64).as_number::<u8>(), None);
        assert_eq!(AttributeValue::number("1.5").as_number::<u32>(), None);
    }
}
