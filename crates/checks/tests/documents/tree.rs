use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::document::Document;

/// Folders with build results, dependencies, or data of a running system.
const GENERATED: [&str; 4] = ["target", "node_modules", ".git", ".local"];

/// The files of the repository, by path from its root.
pub(crate) struct Tree {
    files: BTreeSet<String>,
    folders: BTreeSet<String>,
    documents: BTreeMap<String, Document>,
}

impl Tree {
    pub(crate) fn read() -> Self {
        let mut tree = Self {
            files: BTreeSet::new(),
            folders: BTreeSet::from([String::new()]),
            documents: BTreeMap::new(),
        };
        tree.add(&root(), "");
        for name in tree.files.iter().filter(|name| has_extension(name, "md")) {
            let document = Document::parse(name, &text_of(name).unwrap());
            tree.documents.insert(name.clone(), document);
        }
        tree
    }

    fn add(&mut self, folder: &Path, prefix: &str) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            if !entry.file_type().unwrap().is_dir() {
                self.files.insert(format!("{prefix}{name}"));
            } else if !GENERATED.contains(&name.as_str()) {
                self.folders.insert(format!("{prefix}{name}"));
                self.add(&entry.path(), &format!("{prefix}{name}/"));
            }
        }
    }

    pub(crate) fn documents(&self) -> Vec<&Document> {
        self.documents.values().collect()
    }

    pub(crate) fn document(&self, path: &str) -> Option<&Document> {
        self.documents.get(path)
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(String::as_str)
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.files.contains(path) || self.folders.contains(path)
    }

    /// Returns `true` if a path of the tree has this ending.
    pub(crate) fn has_ending(&self, ending: &str) -> bool {
        let ending = format!("/{ending}");
        self.files.iter().chain(&self.folders).any(|path| path.ends_with(&ending))
    }

    /// Returns `true` if the root has this folder.
    pub(crate) fn has_top_folder(&self, name: &str) -> bool {
        !name.is_empty() && self.folders.contains(name)
    }
}

/// Returns `true` if a path's name ends with the extension.
pub(crate) fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == extension)
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Returns a file's text, or `None` if it is not UTF-8.
pub(crate) fn text_of(path: &str) -> Option<String> {
    fs::read_to_string(root().join(path)).ok()
}
