//! Identifiers of agencies, people, services, devices and brokers: short, printable, cheap to clone.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// An identifier given in the configuration or an inventory. 1 to 64 of `a-z 0-9 - _ .`, starting with a letter or
/// digit, so that it stands in topics, labels, URLs and file names without escaping.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(Arc<str>);

impl Id {
    /// What [`Id::parse`] accepts, for messages.
    pub const ALLOWED: &'static str = "1 to 64 of a-z, 0-9, '-', '_', '.', starting with a letter or digit";

    /// Reads an identifier; `None` if it is not [`Id::ALLOWED`].
    pub fn parse(text: &str) -> Option<Id> {
        let mut bytes = text.bytes();
        let first = bytes.next()?;
        let starts = first.is_ascii_lowercase() || first.is_ascii_digit();
        let rest = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.'));
        (starts && rest && text.len() <= 64).then(|| Id(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text itself, for those who know things by any text: it is not copied.
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl Deref for Id {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Id {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Id {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl serde::Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Id;

    #[test]
    fn accepts_what_needs_no_escaping_and_nothing_else() {
        for good in ["a", "tam-ky", "20335", "cam_01.b"] {
            assert!(Id::parse(good).is_some(), "{good}");
        }
        for bad in ["", "-a", "Tam", "a b", "a/b", "xã", &"a".repeat(65)] {
            assert!(Id::parse(bad).is_none(), "{bad}");
        }
    }
}
