//! `scaffold NAME=.. EVENT=.. SERVICE=.. [KIND=row|sum]`: see `make new-consumer`.

use std::env;
use std::error::Error as _;
use std::io::{Write, stderr, stdout};
use std::process::ExitCode;

use scaffold::{Consumer, Error, Tree};

/// The exit status is 0 if all was written, 2 if nothing was.
fn main() -> ExitCode {
    let written = scaffold::read(env::args().skip(1)).and_then(|wanted| write(&wanted));
    match written {
        Ok(report) => {
            let _ = write!(stdout(), "{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let source = error.source().map(|it| format!(": {it}")).unwrap_or_default();
            let _ = writeln!(stderr(), "{error}{source}");
            ExitCode::from(2)
        }
    }
}

/// Returns what was written, and what to do next.
fn write(wanted: &Consumer) -> Result<String, Error> {
    let here = env::current_dir().ok();
    let tree = here.as_deref().and_then(Tree::around);
    let mut tree =
        tree.ok_or_else(|| Error::Usage("this folder is in no clone of Orderflow".into()))?;
    scaffold::add(&mut tree, wanted)?;
    let line = |(path, _): (&str, &str)| {
        format!("  {} {path}\n", if tree.is_new(path) { "new    " } else { "changed" })
    };
    let files: String = tree.changed().map(line).collect();
    tree.write()?;
    let (service, name, handler) = (&wanted.service, &wanted.name, wanted.handler());
    Ok(format!(
        "The subscription {group} of {event}:\n{files}
Its test is red until `amount` in {handler} returns what an order counts:
  target/debug/sandbox run -- cargo test -p orderflow-{service} --test it {name}::
Then `make schemas`, `make lint`, and docs/adding-a-consumer.md.\n",
        group = wanted.group(),
        event = wanted.event,
    ))
}
