use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use events::{TenantId, TextIdError};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A list of API keys that can't be used. Keys are not shown.
#[derive(Debug, thiserror::Error)]
pub enum TenantsError {
    /// The file can't be read.
    #[error("the file {0} can't be read")]
    File(PathBuf, #[source] std::io::Error),
    /// An entry has no `=`, or its key is empty.
    #[error("entry {0} is not of the form key=tenant")]
    Entry(usize),
    /// An entry names no valid tenant.
    #[error("entry {0} has no valid tenant")]
    Tenant(usize, #[source] TextIdError),
    /// There are no entries.
    #[error("the list is empty")]
    Empty,
}

type Digests = HashMap<[u8; 32], TenantId>;

/// Which API key belongs to which tenant. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Tenants {
    /// By digest, so that the time of a look-up says nothing about a key.
    keys: Arc<RwLock<Digests>>,
    file: Option<PathBuf>,
    changed_at: Option<SystemTime>,
}

impl Tenants {
    /// `key=tenant,..`, or `@file` with an entry a line.
    pub(crate) fn read(list: &str) -> Result<Self, TenantsError> {
        let file = list.strip_prefix('@').map(PathBuf::from);
        // Asked before reading: what changes in between is read once more, and not missed.
        let changed_at = file.as_deref().and_then(changed_at);
        let keys = match &file {
            Some(path) => read_file(path)?,
            None => parse(list)?,
        };
        Ok(Self { keys: Arc::new(RwLock::new(keys)), file, changed_at })
    }

    pub(crate) fn of_key(&self, key: &str) -> Option<TenantId> {
        let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        self.keys.read().unwrap_or_else(PoisonError::into_inner).get(&digest).cloned()
    }

    /// Reads the file again whenever it changes; a list that can't be used leaves the old one standing.
    pub(crate) async fn keep_current(self, shutdown: CancellationToken) {
        let Some(path) = self.file.clone() else { return };
        let mut known = self.changed_at;
        while shutdown.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            let now = changed_at(&path);
            if now == known {
                continue;
            }
            known = now;
            match read_file(&path) {
                Ok(keys) => {
                    tracing::info!(keys = keys.len(), "the list of tenants was read again");
                    *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
                }
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the list of tenants can't be used; the old one stands"
                ),
            }
        }
    }
}

fn changed_at(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|file| file.modified()).ok()
}

fn read_file(path: &PathBuf) -> Result<Digests, TenantsError> {
    parse(&std::fs::read_to_string(path).map_err(|error| TenantsError::File(path.clone(), error))?)
}

fn parse(list: &str) -> Result<Digests, TenantsError> {
    let entries = list.split([',', '\n']).map(str::trim);
    let entries = entries.filter(|entry| !entry.is_empty() && !entry.starts_with('#'));
    let mut keys = Digests::new();
    for (number, entry) in (1..).zip(entries) {
        let (key, tenant) = entry.rsplit_once('=').ok_or(TenantsError::Entry(number))?;
        if key.trim().is_empty() {
            return Err(TenantsError::Entry(number));
        }
        let tenant =
            TenantId::new(tenant.trim()).map_err(|error| TenantsError::Tenant(number, error))?;
        keys.insert(Sha256::digest(key.trim().as_bytes()).into(), tenant);
    }
    if keys.is_empty() { Err(TenantsError::Empty) } else { Ok(keys) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_a_list() {
        let tenants = Tenants::read("demo-acme=acme, a=b==globex").expect("a list");
        let tenant = |key: &str| tenants.of_key(key).map(|tenant| tenant.to_string());
        assert_eq!(tenant("demo-acme").as_deref(), Some("acme"));
        assert_eq!(tenant("a=b=").as_deref(), Some("globex"), "a key may have a '=' in it");
        assert_eq!(tenant("nobody"), None);
    }

    #[test]
    fn an_entry_that_makes_no_sense_is_named_by_its_number() {
        let error = |list: &str| Tenants::read(list).expect_err("refused").to_string();
        assert_eq!(error("a=acme,secret"), "entry 2 is not of the form key=tenant");
        assert_eq!(error("a=acme,=b"), "entry 2 is not of the form key=tenant");
        assert_eq!(error("secret=no tenant"), "entry 1 has no valid tenant");
        assert_eq!(error(" , "), "the list is empty");
        assert!(error("@/nowhere/tenants").contains("/nowhere/tenants"));
    }
}
