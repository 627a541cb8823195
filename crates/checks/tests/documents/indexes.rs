//! Indexes that operators may build before an upgrade.

use crate::Finding;
use crate::document::Document;
use crate::tree::{Tree, has_extension, text_of};

/// Returns the indexes that a migration builds only if they do not exist and that the page does not
/// list, and those that the page lists and no migration builds like this.
pub(crate) fn differing(page: &Document, tree: &Tree) -> Vec<Finding> {
    let built = built(tree);
    let lines = page.code.iter().map(|(line, text)| {
        let statement = text.trim_end_matches(';').replacen("concurrently ", "", 1);
        (*line, statement)
    });
    let listed: Vec<_> = lines.filter(|(_, statement)| is_index(statement)).collect();
    let is_listed = |statement: &str| listed.iter().any(|(_, it)| it == statement);
    let missing = built.iter().filter(|(_, statement)| !is_listed(statement));
    let missing = missing.map(|(path, statement)| Finding {
        file: path.clone(),
        line: 1,
        what: format!("{} does not list: {statement}", page.path),
    });
    let is_built = |statement: &str| built.iter().any(|(_, it)| it == statement);
    let unknown = listed.iter().filter(|(_, statement)| !is_built(statement));
    let unknown = unknown
        .map(|(line, statement)| page.finding(*line, format!("no migration has: {statement}")));
    missing.chain(unknown).collect()
}

/// Returns the statements of migrations that build an index only if it does not exist, each with
/// its file.
fn built(tree: &Tree) -> Vec<(String, String)> {
    let migrations = tree.files().filter(|path| path.contains("/migrations/"));
    let migrations = migrations.filter(|path| has_extension(path, "sql"));
    let of_file = |path: &str| {
        let statements = statements(&text_of(path).unwrap()).into_iter();
        statements.map(|statement| (path.to_owned(), statement)).collect::<Vec<_>>()
    };
    migrations.flat_map(of_file).collect()
}

fn statements(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("--"));
    let code = lines.collect::<Vec<_>>().join(" ");
    let statements = code.split(';').map(|it| it.split_whitespace().collect::<Vec<_>>().join(" "));
    statements.filter(|statement| is_index(statement)).collect()
}

fn is_index(statement: &str) -> bool {
    statement.starts_with("create ") && statement.contains("index if not exists ")
}
