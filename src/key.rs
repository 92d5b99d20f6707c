//! Pre-shared keys, as text and as configuration. What is done with them is in `proto/packet.rs`.

use std::fmt;
use std::str::FromStr;

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;
use zeroize::Zeroize;

/// Bytes of a key.
const BYTES: usize = 32;

/// Characters of a key as text.
const TEXT_BYTES: usize = 44;

/// How many keys a ring may hold: a rotation needs two, and each further one that has the same short name costs every
/// packet that is not for this cluster an attempt.
pub(crate) const KEYS_MAX: usize = 16;

/// How an operator makes a key, for messages that ask for one.
pub(crate) const HOW_TO_MAKE: &str = "head -c 32 /dev/urandom | base64";

/// A secret that the nodes of a cluster share: 32 random bytes, written as 44 characters of base64.
///
/// Whoever has it is trusted with everything that the cluster does. `Debug` does not show it; serializing a
/// [`Config`](crate::Config) that holds it does.
///
/// # Example
/// ```
/// let key: haulout::Key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".parse()?;
/// assert_eq!(format!("{key:?}"), "Key(..)");
/// assert!("password".parse::<haulout::Key>().is_err());
/// # Ok::<(), haulout::KeyError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; BYTES]);

impl Key {
    /// The key with these bytes. They must be random: a password or its hash can be guessed.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Key(bytes)
    }

    /// A new key from the operating system's random numbers.
    ///
    /// # Panics
    /// If the operating system has none, which no supported one lets happen once it is up.
    #[cfg(feature = "runtime")]
    pub fn generate() -> Self {
        let mut key = Key([0; BYTES]);
        getrandom::fill(&mut key.0).expect("the operating system has random numbers");
        key
    }

    /// The key as text, to be stored where only the nodes can read it.
    pub fn to_base64(&self) -> String {
        let mut text = [0; TEXT_BYTES];
        Base64::encode(&self.0, &mut text).map(str::to_owned).unwrap_or_default()
    }

    pub(crate) fn bytes(&self) -> &[u8; BYTES] {
        &self.0
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// A text that is no key. It is not shown, since it may be one with a slip.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a key is 32 bytes as 44 characters of base64, this text has {len} characters: make one with `{HOW_TO_MAKE}`")]
pub struct KeyError {
    /// How many characters the text has.
    pub len: usize,
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut key = Key([0; BYTES]);
        match Base64::decode(text, &mut key.0) {
            Ok(bytes) if bytes.len() == BYTES => Ok(key),
            _ => Err(KeyError { len: text.chars().count() }),
        }
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_base64())
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl de::Visitor<'_> for Text {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key as 44 characters of base64")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Key, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a key survives being written down, and shows itself only when asked to. Method: there and back, by every way.
    #[test]
    fn a_key_is_read_as_it_was_written_and_hidden_from_debug() {
        let key = Key::new(std::array::from_fn(|n| n as u8 * 7));
        let text = key.to_base64();
        assert_eq!(text.len(), TEXT_BYTES);
        assert_eq!(text.parse(), Ok(key.clone()));
        let json = serde_json::to_string(&key).expect("it can be written");
        assert_eq!(serde_json::from_str::<Key>(&json).expect("it can be read"), key);
        assert!(!format!("{key:?}").contains(&text[..4]));
    }

    /// Goal: what is no key is refused, with what one looks like and without showing what was given.
    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        let text = Key::new([1; 32]).to_base64();
        let short = Base64::encode(&[1; 31], &mut [0; TEXT_BYTES]).expect("there is room").to_owned();
        for wrong in ["", "secret", &text[1..], &format!("{text}="), &format!("{}!", &text[..43]), &short] {
            let error = wrong.parse::<Key>().expect_err("it is no key").to_string();
            assert!(error.contains("/dev/urandom") && (wrong.is_empty() || !error.contains(wrong)), "{error}");
        }
    }

    #[cfg(feature = "runtime")]
    #[test]
    fn generated_keys_differ() {
        assert_ne!(Key::generate(), Key::generate());
    }
}
