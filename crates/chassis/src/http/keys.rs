//! Lists of API keys, and what each key grants.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use envelope::TenantId;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::entries::entries;
use crate::live_file::{LiveFile, Reload};

/// Error of a list of API keys. Keys are not shown.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file can't be read.
    #[error("the file {0} can't be read")]
    File(PathBuf, #[source] std::io::Error),
    /// An entry has no `=`, or its key is empty.
    #[error("entry {0} is not of the form key={1}")]
    Entry(usize, &'static str),
    /// The value of an entry is invalid.
    #[error("entry {0} is not of the form key={1}: {2}")]
    Value(usize, &'static str, String),
    /// Two entries have the same key and different values.
    #[error("entries {0} and {1} have the same key and different values")]
    Twice(usize, usize),
    /// There are no entries.
    #[error("the list is empty")]
    Empty,
}

/// The value that a key is mapped to.
pub(crate) trait Meaning:
    TryFrom<String, Error: Display> + Clone + PartialEq + Send + Sync + 'static
{
    /// Form of the value after `key=`.
    const FORM: &'static str;
    /// Setting that has the list.
    const SETTING: &'static str;
}

impl Meaning for TenantId {
    const FORM: &'static str = "tenant";
    const SETTING: &'static str = "TENANTS";
}

/// API keys of the tenants.
pub(crate) type Tenants = Keys<TenantId>;

/// SHA-256 of a key.
pub(super) type KeyDigest = [u8; 32];
type Digests<T> = HashMap<KeyDigest, T>;

/// Returns the digest of a key.
pub(super) fn digest(key: &str) -> KeyDigest {
    Sha256::digest(key.as_bytes()).into()
}

/// API keys and their values. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Keys<T> {
    /// Values by digest, so that the time of a look-up reveals nothing about a key.
    meanings: Arc<RwLock<Digests<T>>>,
    file: Option<LiveFile>,
}

impl<T: Meaning> Keys<T> {
    /// Creates an empty list.
    pub(crate) fn none() -> Self {
        Self { meanings: Arc::default(), file: None }
    }

    /// Reads `key=<value>,..`, or `@file` with one entry per line.
    pub(crate) fn read(list: &str) -> Result<Self, KeysError> {
        let (keys, file) = match list.strip_prefix('@').map(LiveFile::open) {
            Some((Ok(text), file)) => (parse(&text)?, Some(file)),
            Some((Err(error), file)) => {
                return Err(KeysError::File(file.path().to_owned(), error));
            }
            None => (parse(list)?, None),
        };
        Ok(Self { meanings: Arc::new(RwLock::new(keys)), file })
    }

    /// Returns the value of the key that has this digest.
    pub(super) fn of_digest(&self, digest: &KeyDigest) -> Option<T> {
        self.meanings.read().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    /// Reloads the file on changes and on request. Keeps the old list if the new one is invalid.
    pub(crate) async fn keep_current(self, reload: Reload, shutdown: CancellationToken) {
        let Some(file) = self.file else { return };
        file.keep_current(T::SETTING, reload, shutdown, |text| {
            let keys = parse::<T>(text)?;
            let count = keys.len();
            *self.meanings.write().unwrap_or_else(PoisonError::into_inner) = keys;
            Ok::<_, KeysError>(count)
        })
        .await;
    }
}

fn parse<T: Meaning>(list: &str) -> Result<Digests<T>, KeysError> {
    let mut keys = HashMap::new();
    for (number, entry) in (1..).zip(entries(list)) {
        let (key, meaning) = entry.rsplit_once('=').ok_or(KeysError::Entry(number, T::FORM))?;
        if key.trim().is_empty() {
            return Err(KeysError::Entry(number, T::FORM));
        }
        let refused = |why: T::Error| KeysError::Value(number, T::FORM, why.to_string());
        let meaning = T::try_from(meaning.trim().to_owned()).map_err(refused)?;
        match keys.entry(digest(key.trim())) {
            Entry::Vacant(place) => _ = place.insert((number, meaning)),
            Entry::Occupied(same) => {
                let (first, known) = same.get();
                if *known != meaning {
                    return Err(KeysError::Twice(*first, number));
                }
            }
        }
    }
    if keys.is_empty() {
        return Err(KeysError::Empty);
    }
    Ok(keys.into_iter().map(|(digest, (_, meaning))| (digest, meaning)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_a_list() {
        let tenants = Tenants::read("demo-acme=acme, a=b==globex").expect("a list");
        let tenant = |key: &str| tenants.of_digest(&digest(key)).map(|tenant| tenant.to_string());
        assert_eq!(tenant("demo-acme").as_deref(), Some("acme"));
        assert_eq!(tenant("a=b=").as_deref(), Some("globex"), "a key may have a '=' in it");
        assert_eq!(tenant("nobody"), None);
    }

    #[test]
    fn an_entry_that_makes_no_sense_is_named_by_its_number() {
        let error = |list: &str| Tenants::read(list).expect_err("refused").to_string();
        assert_eq!(error("a=acme,secret"), "entry 2 is not of the form key=tenant");
        assert_eq!(error("a=acme,=b"), "entry 2 is not of the form key=tenant");
        assert!(error("secret=no tenant").starts_with("entry 1 is not of the form key=tenant: "));
        assert_eq!(error(" , "), "the list is empty");
        assert!(error("@/nowhere/tenants").contains("/nowhere/tenants"));
    }

    #[test]
    fn a_key_of_two_tenants_is_refused_without_showing_it() {
        let error = Tenants::read("secret=acme, other=acme, secret = globex").expect_err("refused");
        assert_eq!(error.to_string(), "entries 1 and 3 have the same key and different values");
        assert!(!format!("{error:?}").contains("secret"));
        let tenants = Tenants::read("secret=acme,secret=acme").expect("a list");
        assert!(tenants.of_digest(&digest("secret")).is_some());
    }
}
