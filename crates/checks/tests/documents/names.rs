use crate::Finding;
use crate::document::Document;
use crate::links::resolve;
use crate::tree::{Tree, has_extension};

/// Extensions by which a name in a sentence is recognised as a file of this repository.
const ENDINGS: [&str; 9] = ["md", "rs", "toml", "yml", "yaml", "sh", "sql", "patch", "mk"];

/// Returns the names of files, in sentences and in commands, that do not exist.
pub(crate) fn missing_files(document: &Document, tree: &Tree) -> Vec<Finding> {
    let in_commands = document.code.iter().flat_map(|(line, text)| {
        let words = text.split(|it: char| it.is_whitespace() || "\"'`()=;,".contains(it));
        words.map(|word| (*line, word)).filter(|(_, word)| is_in_top_folder(word, tree))
    });
    let in_sentences = document.spans.iter().map(|(line, text)| (*line, text.as_str()));
    let in_sentences = in_sentences
        .filter(|(_, text)| is_path(text) && (is_in_top_folder(text, tree) || has_ending(text)));
    let named = in_sentences.chain(in_commands);
    let missing = named.filter(|(_, name)| !exists(document, name, tree));
    missing.map(|(line, name)| document.finding(line, format!("{name} does not exist"))).collect()
}

/// Prefixes of build results, and of Kafka's own scripts (`kafka-configs.sh`).
const ELSEWHERE: [&str; 3] = ["/", "target/", "kafka-"];

fn is_path(text: &str) -> bool {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "_-./@".contains(it);
    text.chars().all(is_plain) && !ELSEWHERE.iter().any(|start| text.starts_with(start))
}

/// Returns `true` if it is a path into one of the root's folders. The mere name of one may be a
/// word.
fn is_in_top_folder(text: &str, tree: &Tree) -> bool {
    is_path(text)
        && text
            .split_once('/')
            .is_some_and(|(folder, rest)| tree.has_top_folder(folder) && !rest.is_empty())
}

fn has_ending(text: &str) -> bool {
    ENDINGS.iter().any(|ending| has_extension(text, ending))
}

/// Returns `true` if a file has that path from the root or the document's folder, or a path with
/// that ending (`app.rs`).
fn exists(document: &Document, name: &str, tree: &Tree) -> bool {
    let name = name.trim_end_matches(['/', '.']);
    tree.has(name)
        || tree.has_ending(name)
        || resolve(document, name).is_some_and(|path| tree.has(&path))
}
