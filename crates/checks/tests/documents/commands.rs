use std::collections::BTreeSet;

use clap::Command;

use crate::Finding;
use crate::document::Document;
use crate::tree::{Tree, text_of};

/// Commands of this repository that documents may name.
pub(crate) struct Commands {
    orderflow: Command,
    /// Commands of `deploy/system`.
    system: BTreeSet<String>,
    packages: BTreeSet<String>,
}

impl Commands {
    pub(crate) fn read(tree: &Tree) -> Self {
        let system = text_of("deploy/system").unwrap();
        let known = system.lines().find(|line| line.ends_with(") shift ;;")).unwrap();
        let known = known.trim_end_matches(") shift ;;").split(" | ").map(str::to_owned);
        let manifests = tree.files().filter(|path| path.ends_with("Cargo.toml"));
        let names = manifests.filter_map(|path| {
            let text = text_of(path)?;
            let line = text.lines().find_map(|line| line.strip_prefix("name = "))?;
            Some(line.trim_matches('"').to_owned())
        });
        let packages = names.collect();
        Self { orderflow: ops::command_line(), system: known.collect(), packages }
    }

    /// Returns the commands that a document names and that do not exist.
    pub(crate) fn unknown(&self, document: &Document, tree: &Tree) -> Vec<Finding> {
        let texts = document.spans.iter().chain(&document.code);
        let wrong = texts.filter_map(|(line, text)| {
            // Text after `#` is a comment.
            let command = text.split(" #").next().unwrap_or_default();
            let words: Vec<_> = command.split([' ', '`', '"', '(', ')']).collect();
            let what = (0..words.len()).find_map(|at| self.wrong(&words[at..], tree))?;
            Some(document.finding(*line, what))
        });
        wrong.collect()
    }

    /// Returns the problem of the command at the start of these words, if it is one of this
    /// repository.
    fn wrong(&self, words: &[&str], tree: &Tree) -> Option<String> {
        match words {
            ["orderflow", rest @ ..] => unknown_subcommand(&self.orderflow, rest),
            ["deploy/system", name, ..] if is_name(name) && !self.system.contains(*name) => {
                Some(format!("deploy/system has no command {name}"))
            }
            ["deploy/system", "dlq", rest @ ..] => {
                unknown_subcommand(self.orderflow.find_subcommand("dlq")?, rest)
            }
            ["-p", package, rest @ ..] if package.starts_with("orderflow-") => {
                self.unknown_package(package, rest, tree)
            }
            _ => None,
        }
    }

    fn unknown_package(&self, package: &str, rest: &[&str], tree: &Tree) -> Option<String> {
        // `orderflow-<package>` is a placeholder, and `orderflow-kafka/tls` names a feature.
        let is_plain = package.chars().all(|it| it.is_ascii_lowercase() || it == '-');
        if !is_plain {
            return None;
        }
        if !self.packages.contains(package) {
            return Some(format!("there is no package {package}"));
        }
        let at = rest.iter().position(|word| *word == "--test")?;
        let test = rest.get(at + 1).filter(|test| is_name(test))?;
        let folder = package.trim_start_matches("orderflow-");
        let places = ["crates", "services"].into_iter().flat_map(|top| {
            [
                format!("{top}/{folder}/tests/{test}.rs"),
                format!("{top}/{folder}/tests/{test}/main.rs"),
            ]
        });
        (!places.into_iter().any(|path| tree.has(&path)))
            .then(|| format!("{package} has no test {test}"))
    }
}

/// Returns `true` if the word is a name, and not an option or a placeholder.
fn is_name(word: &str) -> bool {
    word.starts_with(|it: char| it.is_ascii_lowercase())
        && word.chars().all(|it| it.is_ascii_lowercase() || it == '-' || it == '_')
}

fn unknown_subcommand(command: &Command, words: &[&str]) -> Option<String> {
    let name = words.first().filter(|word| is_name(word))?;
    if !command.has_subcommands() || *name == "help" {
        return None;
    }
    match command.find_subcommand(name) {
        Some(found) => unknown_subcommand(found, &words[1..]),
        None => Some(format!("{} has no command {name}", command.get_name())),
    }
}
