//! Secrets that are given as files: `NAME_FILE=/run/secrets/name` in place of `NAME`, for every setting that is a secret.

use std::ffi::OsString;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{Command, Parser};

/// Lists that are read again when their file changes, so that the setting is the file and not what it holds now.
const WATCHED: [&str; 3] = ["TENANTS", "EVENT_SENDERS", "OPERATOR_TOKENS"];

/// Parses flags and environment. Ends the process with one sentence if a value can't be used.
pub(crate) fn parse<C: Parser>() -> C {
    let environment = |name: &str| std::env::var(name).ok();
    parse_from(std::env::args_os().collect(), environment).unwrap_or_else(|error| error.exit())
}

fn parse_from<C: Parser>(
    mut arguments: Vec<OsString>,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<C, clap::Error> {
    let mut command = C::command();
    let flags = of_files(&mut command, environment)?;
    // Flags come before the environment, where an empty variable would count, too.
    arguments.extend(flags.into_iter().map(OsString::from));
    let mut matches = command.clone().try_get_matches_from(arguments)?;
    C::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// Returns a flag for each secret whose file is given.
fn of_files(
    command: &mut Command,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>, clap::Error> {
    let set = |name: &str| environment(name).filter(|value| !value.is_empty());
    let mut flags = Vec::new();
    let mut wrong = None;
    for argument in command.get_arguments().filter(|argument| argument.is_hide_env_values_set()) {
        let name = argument.get_env().and_then(|name| name.to_str());
        let Some((name, flag)) = name.zip(argument.get_long()) else { continue };
        let Some(file) = set(&format!("{name}_FILE")) else { continue };
        if set(name).is_some() {
            wrong = Some(format!("{name} and {name}_FILE are both set: give one of them"));
            break;
        }
        match value(name, &file) {
            Ok(value) => flags.push(format!("--{flag}={value}")),
            Err(error) => {
                wrong = Some(format!("{name}_FILE: {file} can't be read: {error}"));
                break;
            }
        }
    }
    match wrong {
        Some(message) => Err(command.error(ErrorKind::ValueValidation, message)),
        None => Ok(flags),
    }
}

/// Returns the value of a secret: the text of the file, without the line break that editors put at its end.
fn value(name: &str, file: &str) -> std::io::Result<String> {
    let text = std::fs::read_to_string(Path::new(file))?;
    if WATCHED.contains(&name) {
        return Ok(format!("@{file}"));
    }
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;

    #[derive(Parser)]
    struct Told {
        #[arg(long, env = "SECRET_FILES_TEST_KEY", hide_env_values = true)]
        key: Option<Secret>,
        #[arg(long, env = "TENANTS", hide_env_values = true)]
        tenants: Option<Secret>,
    }

    fn told(environment: &[(&str, &str)]) -> Result<Told, String> {
        let environment = |name: &str| {
            let found = environment.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        parse_from(vec!["test".into()], environment).map_err(|error| error.to_string())
    }

    fn exposed(secret: Option<&Secret>) -> Option<&str> {
        secret.map(Secret::expose)
    }

    #[test]
    fn a_secret_can_be_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("key");
        std::fs::write(&file, "-s3cret with = and ,\n").expect("written");
        let file = file.to_str().expect("UTF-8");
        let key = "SECRET_FILES_TEST_KEY";
        let key_file = "SECRET_FILES_TEST_KEY_FILE";
        let read = told(&[(key_file, file), (key, "")]).expect("read");
        assert_eq!(exposed(read.key.as_ref()), Some("-s3cret with = and ,"));
        assert_eq!(exposed(told(&[(key_file, "")]).expect("none").key.as_ref()), None);

        let both = told(&[(key_file, file), (key, "hunter2")]).err().expect("both");
        assert!(both.contains("both set") && !both.contains("hunter2"), "{both}");
        let missing = told(&[(key_file, "/nowhere/key")]).err().expect("no file");
        assert!(missing.contains("SECRET_FILES_TEST_KEY_FILE: /nowhere/key"), "{missing}");

        let tenants = told(&[("TENANTS_FILE", file)]).expect("read").tenants;
        assert_eq!(exposed(tenants.as_ref()), Some(&*format!("@{file}")), "it is watched");
    }
}
