//! `scaffold consumer|event NAME=..`: see `make new-consumer` and `make new-event`.

use std::env;
use std::error::Error as _;
use std::io::{Write, stderr, stdout};
use std::process::ExitCode;

use scaffold::{Consumer, Error, NewEvent, Request, Tree};

/// Writes the requested files. The exit status is 0 if all were written, and 2 if none was.
fn main() -> ExitCode {
    let written = scaffold::read(env::args().skip(1)).and_then(|request| write(&request));
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

/// Returns the written files, and what to do next.
fn write(request: &Request) -> Result<String, Error> {
    let here = env::current_dir().ok();
    let tree = here.as_deref().and_then(Tree::around);
    let mut tree =
        tree.ok_or_else(|| Error::Usage("this folder is not in a clone of Orderflow".into()))?;
    let (what, next) = match request {
        Request::Consumer(wanted) => {
            scaffold::add(&mut tree, wanted)?;
            (format!("The subscription {} of {}", wanted.group(), wanted.event), after(wanted))
        }
        Request::Event(wanted) => {
            scaffold::add_event(&mut tree, wanted)?;
            (format!("The event {} of {}", wanted.event, wanted.service), after_event(wanted))
        }
    };
    let line = |(path, _): (&str, &str)| {
        format!("  {} {path}\n", if tree.is_new(path) { "new    " } else { "changed" })
    };
    let files: String = tree.changed().map(line).collect();
    tree.write()?;
    Ok(format!("{what}:\n{files}\n{next}"))
}

fn after(wanted: &Consumer) -> String {
    let (service, name, handler) = (&wanted.service, &wanted.name, wanted.handler());
    format!(
        "Its test fails until `amount` in {handler} returns the amount of an event:
  target/debug/sandbox run -- cargo test -p orderflow-{service} --test it {name}::
Then `make schemas`, `make lint`, and docs/adding-a-consumer.md.\n"
    )
}

fn after_event(wanted: &NewEvent) -> String {
    format!(
        "The contract's tests pass without further changes: cargo test -p orderflow-events
Adapt the schema and the type of {}, and publish the event. Then `make schemas`, `make lint`, and
docs/adding-an-event.md.\n",
        wanted.event
    )
}
