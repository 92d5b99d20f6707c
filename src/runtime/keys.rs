//! Reading the keys of a keyring from where the configuration says that they are.

use std::fs;
use std::path::Path;

use zeroize::Zeroizing;

use crate::config::Security;
use crate::error::StartNodeError;
use crate::key::{KEYS_MAX, Key};

/// Adds the keys of the file and of the variable to those that the configuration holds itself.
pub(super) fn load(security: &mut Security) -> Result<(), StartNodeError> {
    let Security::Keyring { keys, file, env } = security else { return Ok(()) };
    if let Some(path) = file {
        keys.extend(from_file(path)?);
    }
    if let Some(name) = env {
        keys.extend(from_variable(name)?);
    }
    let count = keys.len();
    if (1..=KEYS_MAX).contains(&count) { Ok(()) } else { Err(StartNodeError::KeyCount { count }) }
}

fn from_file(path: &Path) -> Result<Vec<Key>, StartNodeError> {
    let text = fs::read_to_string(path).map_err(|source| StartNodeError::KeyFile { path: path.to_owned(), source })?;
    let text = Zeroizing::new(text);
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).enumerate();
    let keys = lines.filter(|(_, line)| !line.is_empty()).map(|(number, line)| {
        let place = || format!("{}, line {}", path.display(), number + 1);
        line.parse().map_err(|source| StartNodeError::Key { place: place(), source })
    });
    keys.collect()
}

#[allow(clippy::disallowed_methods, reason = "the configuration names the variable")]
fn from_variable(name: &str) -> Result<Vec<Key>, StartNodeError> {
    let missing = || StartNodeError::KeyVariable { name: name.to_owned() };
    let text = Zeroizing::new(std::env::var(name).map_err(|_| missing())?);
    let words = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
    let place = || format!("environment variable {name}");
    words.map(|word| word.parse().map_err(|source| StartNodeError::Key { place: place(), source })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> Key {
        Key::new([n; 32])
    }

    fn keyring(file: Option<&Path>, env: Option<&str>) -> Security {
        Security::Keyring { keys: vec![key(1)], file: file.map(Path::to_owned), env: env.map(str::to_owned) }
    }

    fn file(name: &str, text: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("haulout-keys-{}-{name}", std::process::id()));
        fs::write(&path, text).expect("a file can be written");
        path
    }

    /// Goal: keys are read from a file, in its order, behind those of the configuration. Method: a file with comments and
    /// empty lines.
    #[test]
    fn keys_of_a_file_follow_those_of_the_configuration() {
        let text = format!("# first\n{}\n\n  {} # old\n", key(2).to_base64(), key(3).to_base64());
        let path = file("good", &text);
        let mut security = keyring(Some(&path), None);
        load(&mut security).expect("they are keys");
        fs::remove_file(&path).expect("it is there");
        assert_eq!(security.keys(), Some(&[key(1), key(2), key(3)][..]));
    }

    /// Goal: whatever can't be loaded is named with what to do, and no key is shown. Method: each mistake once.
    #[test]
    fn what_can_not_be_loaded_is_named_and_not_shown() {
        let almost = &key(4).to_base64()[1..];
        let bad = file("bad", &format!("\n{almost}\n"));
        let many = file("many", &format!("{}\n", key(5).to_base64()).repeat(KEYS_MAX));
        for (security, expected) in [
            (keyring(Some(Path::new("/nowhere/keys")), None), "correct security.file"),
            (keyring(Some(&bad), None), "line 2"),
            (keyring(Some(&many), None), "17 keys"),
            (keyring(None, Some("HAULOUT_NO_SUCH_VARIABLE")), "correct security.env"),
        ] {
            let error = load(&mut security.clone()).expect_err("it can't be loaded").to_string();
            assert!(error.contains(expected) && !error.contains(almost), "{error}");
        }
        [bad, many].iter().for_each(|path| fs::remove_file(path).expect("it is there"));
        let mut empty = Security::Keyring { keys: Vec::new(), file: None, env: None };
        assert!(matches!(load(&mut empty), Err(StartNodeError::KeyCount { count: 0 })));
    }
}
