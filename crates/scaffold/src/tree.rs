use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;

/// The repository with changes that are not written yet. Paths are relative to its root.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
    changed: BTreeMap<String, String>,
}

impl Tree {
    /// Returns the repository at a folder, unchanged.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), changed: BTreeMap::new() }
    }

    /// Returns the repository that contains a folder. Returns `None` if there is none.
    pub fn around(folder: &Path) -> Option<Self> {
        let is_root = |it: &&Path| it.join("schemas").is_dir() && it.join("services").is_dir();
        folder.ancestors().find(is_root).map(Self::new)
    }

    /// Returns the text of a file, with its changes.
    ///
    /// # Errors
    /// [`Error::Io`] if it can't be read.
    pub fn read(&self, path: &str) -> Result<String, Error> {
        if let Some(text) = self.changed.get(path) {
            return Ok(text.clone());
        }
        let path = self.root.join(path);
        fs::read_to_string(&path).map_err(|source| Error::Io { doing: "read", path, source })
    }

    /// Returns `true` if the file or folder exists.
    pub fn has(&self, path: &str) -> bool {
        self.changed.contains_key(path) || self.root.join(path).exists()
    }

    /// Returns the names of the files and folders in a folder, sorted. Returns none if it can't be
    /// read.
    pub fn names_in(&self, folder: &str) -> BTreeSet<String> {
        let written = fs::read_dir(self.root.join(folder)).into_iter().flatten().flatten();
        let written = written.filter_map(|entry| entry.file_name().into_string().ok());
        let inside =
            |path: &&String| path.strip_prefix(folder).is_some_and(|it| it.starts_with('/'));
        let changed = self.changed.keys().filter(inside);
        let changed = changed.filter_map(|path| path[folder.len() + 1..].split('/').next());
        changed.map(str::to_owned).chain(written).collect()
    }

    /// Sets the text of a file, which may be new.
    pub fn set(&mut self, path: impl Into<String>, text: String) {
        self.changed.insert(path.into(), text);
    }

    /// Returns the files that are new or changed, and their texts.
    pub fn changed(&self) -> impl Iterator<Item = (&str, &str)> {
        self.changed.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Returns `true` if a file does not exist yet.
    pub fn is_new(&self, path: &str) -> bool {
        !self.root.join(path).exists()
    }

    /// Writes all changes, or none.
    ///
    /// # Errors
    /// [`Error::Io`] if a file can't be written. Files written before it are restored.
    pub fn write(&self) -> Result<(), Error> {
        let mut undo: Vec<(PathBuf, Option<Vec<u8>>)> = Vec::new();
        for (path, text) in &self.changed {
            let path = self.root.join(path);
            let before = fs::read(&path).ok();
            undo.push((path.clone(), before));
            let folder = path.parent().unwrap_or(&self.root);
            if let Err(source) = fs::create_dir_all(folder).and_then(|()| fs::write(&path, text)) {
                // If restoring fails too, Git has the file.
                for (path, before) in undo {
                    let _ =
                        before.map_or_else(|| fs::remove_file(&path), |it| fs::write(&path, it));
                }
                return Err(Error::Io { doing: "written", path, source });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_written_whole_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("b.txt"), "before").unwrap();
        let mut tree = Tree::new(folder.path());
        tree.set("a.txt", "new".into());
        tree.set("b.txt", "after".into());
        tree.set("b.txt/no/folder.txt", "new".into());
        assert!(tree.is_new("a.txt") && !tree.is_new("b.txt"));
        let error = tree.write().unwrap_err().to_string();
        assert!(error.ends_with("folder.txt could not be written"), "{error}");
        assert!(!path("a.txt").exists());
        assert_eq!(fs::read_to_string(path("b.txt")).unwrap(), "before");
    }
}
