#![doc = include_str!("../README.md")]

use std::ffi::OsString;
use std::fs;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, Parser};

/// Parses flags, environment and files of secrets. If a value is invalid, prints one sentence and
/// ends the process.
///
/// A secret that `watched` names gets `@` and the path as its value in place of the content: the
/// program reads the file itself whenever it changes.
pub fn parse<C: Parser>(watched: &[&str]) -> C {
    let environment = |name: &str| std::env::var(name).ok();
    parse_from(std::env::args_os().collect(), &environment, watched)
        .unwrap_or_else(|error| error.exit())
}

fn parse_from<C: Parser>(
    arguments: Vec<OsString>,
    environment: &dyn Fn(&str) -> Option<String>,
    watched: &[&str],
) -> Result<C, clap::Error> {
    let mut files = Files { environment, watched, refused: Vec::new() };
    let mut command = files.fill(C::command(), &[]);
    let mut matches = command.clone().try_get_matches_from(arguments)?;
    if let Some(refused) = files.refused.iter().find(|refused| refused.concerns(&matches)) {
        return Err(command.error(ErrorKind::ValueValidation, &refused.why));
    }
    C::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// Files of secrets that the environment names.
struct Files<'a> {
    environment: &'a dyn Fn(&str) -> Option<String>,
    watched: &'a [&'a str],
    /// Secrets whose files are unusable.
    refused: Vec<Refused>,
}

/// A secret whose file is unusable. Contains no value.
struct Refused {
    /// Subcommands that lead to the argument.
    path: Vec<String>,
    argument: String,
    why: String,
}

impl Files<'_> {
    /// Returns a command whose secrets have the content of their files as defaults. Flags and
    /// variables take precedence.
    fn fill(&mut self, command: Command, path: &[String]) -> Command {
        let command = command.mut_args(|argument| self.fill_argument(argument, path));
        command.mut_subcommands(|sub| {
            let path = [path, &[sub.get_name().to_owned()]].concat();
            self.fill(sub, &path)
        })
    }

    fn fill_argument(&mut self, argument: Arg, path: &[String]) -> Arg {
        let Some(name) = argument.get_env().and_then(|name| name.to_str()).map(str::to_owned)
        else {
            return argument;
        };
        let is_secret = argument.is_hide_env_values_set();
        let is_empty = (self.environment)(&name).is_some_and(|value| value.is_empty());
        let argument = if is_empty { argument.env(None::<&'static str>) } else { argument };
        if !is_secret {
            return argument;
        }
        match self.content(&name) {
            Ok(None) => argument,
            Ok(Some(content)) => argument.default_value(content).hide_default_value(true),
            Err(why) => {
                let id = argument.get_id().to_string();
                self.refused.push(Refused { path: path.to_vec(), argument: id, why });
                argument
            }
        }
    }

    /// Returns the value of a secret from its file, or `None` if no file is named.
    fn content(&self, name: &str) -> Result<Option<String>, String> {
        let set = |name: &str| (self.environment)(name).filter(|value| !value.is_empty());
        let Some(file) = set(&format!("{name}_FILE")) else { return Ok(None) };
        if set(name).is_some() {
            return Err(format!("{name} and {name}_FILE are both set: give one of them"));
        }
        let text = fs::read_to_string(&file)
            .map_err(|error| format!("{name}_FILE: {file} can't be read: {error}"))?;
        let value = text.trim_end_matches(['\r', '\n']);
        if value.is_empty() {
            return Err(format!("{name}_FILE: {file} is empty"));
        }
        let is_watched = self.watched.contains(&name);
        Ok(Some(if is_watched { format!("@{file}") } else { value.to_owned() }))
    }
}

impl Refused {
    /// Returns `true` if the argument belongs to the given command and is not set by a flag.
    fn concerns(&self, matches: &ArgMatches) -> bool {
        let mut matches = matches;
        for name in &self.path {
            match matches.subcommand() {
                Some((given, of_it)) if given == name => matches = of_it,
                _ => return false,
            }
        }
        matches.value_source(&self.argument) != Some(ValueSource::CommandLine)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use clap::{Args, CommandFactory};
    use tempfile::TempDir;

    use super::*;

    #[derive(Parser, Debug)]
    struct Config {
        #[arg(long, env = "SETTINGS_TEST_KEY", hide_env_values = true, default_value = "")]
        key: String,
        #[arg(long, env = "SETTINGS_TEST_KEYS", hide_env_values = true)]
        keys: Option<String>,
        // Set by cargo; the test treats it as empty.
        #[arg(long, env = "CARGO_PKG_NAME", default_value = "anywhere")]
        place: String,
    }

    #[derive(Parser, Debug)]
    enum Tool {
        Ask(TestArguments),
        Serve {
            #[arg(long, env = "SETTINGS_TEST_SECRET", hide_env_values = true)]
            secret: Option<String>,
        },
    }

    #[derive(Args, Debug)]
    struct TestArguments {
        #[arg(long, env = "SETTINGS_TEST_TOKEN", hide_env_values = true, global = true)]
        token: Option<String>,
        #[command(subcommand)]
        command: Option<TestCommand>,
    }

    #[derive(clap::Subcommand, Debug)]
    enum TestCommand {
        Jobs,
    }

    struct Secrets(TempDir);

    impl Secrets {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("a folder"))
        }

        fn file(&self, name: &str, content: &str) -> String {
            let file: PathBuf = self.0.path().join(name);
            fs::write(&file, content).expect("written");
            file.to_str().expect("UTF-8").to_owned()
        }
    }

    fn parsed<C: Parser>(arguments: &str, environment: &[(&str, &str)]) -> Result<C, String> {
        let environment = |name: &str| {
            let found = environment.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let arguments = arguments.split(' ').map(OsString::from).collect();
        parse_from(arguments, &environment, &["SETTINGS_TEST_KEYS"])
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_secret_can_be_a_file() {
        let secrets = Secrets::new();
        let file = secrets.file("key", "-s3cret with = and ,\n");
        let of_file = ("SETTINGS_TEST_KEY_FILE", &*file);
        let key = |arguments: &str, environment: &[_]| {
            parsed::<Config>(arguments, environment).map(|config| config.key)
        };
        let read = "-s3cret with = and ,";
        assert_eq!(key("test", &[of_file]).as_deref(), Ok(read));
        assert_eq!(key("test", &[of_file, ("SETTINGS_TEST_KEY", "")]).as_deref(), Ok(read));
        assert_eq!(key("test", &[("SETTINGS_TEST_KEY_FILE", "")]).as_deref(), Ok(""));
        assert_eq!(key("test --key flag", &[of_file]).as_deref(), Ok("flag"), "a flag wins");

        let both = key("test", &[of_file, ("SETTINGS_TEST_KEY", "hunter2")]).expect_err("both");
        assert!(both.contains("both set") && !both.contains("hunter2"), "{both}");
        let missing = key("test", &[("SETTINGS_TEST_KEY_FILE", "/nowhere/key")]);
        let missing = missing.expect_err("no file");
        assert!(missing.contains("SETTINGS_TEST_KEY_FILE: /nowhere/key"), "{missing}");
        let empty = secrets.file("empty", "\n");
        let empty = key("test", &[("SETTINGS_TEST_KEY_FILE", &empty)]).expect_err("empty");
        assert!(empty.contains("is empty"), "{empty}");
    }

    #[test]
    fn a_list_that_is_watched_is_its_file() {
        let file = Secrets::new();
        let file = file.file("keys", "a=b\n");
        let config = parsed::<Config>("test", &[("SETTINGS_TEST_KEYS_FILE", &file)]);
        assert_eq!(config.expect("read").keys, Some(format!("@{file}")));
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        let place = |environment: &[_]| parsed::<Config>("test", environment).map(|it| it.place);
        assert_eq!(place(&[]).as_deref(), Ok("orderflow-settings"));
        assert_eq!(place(&[("CARGO_PKG_NAME", "")]).as_deref(), Ok("anywhere"));
    }

    #[test]
    fn what_is_no_secret_has_no_file() {
        let secrets = Secrets::new();
        let file = secrets.file("place", "in a file\n");
        let environment = [("CARGO_PKG_NAME", ""), ("CARGO_PKG_NAME_FILE", &*file)];
        let place = parsed::<Config>("test", &environment).map(|it| it.place);
        assert_eq!(place.as_deref(), Ok("anywhere"));
    }

    #[test]
    fn only_the_files_of_the_command_that_is_given_are_required() {
        let secrets = Secrets::new();
        let token = secrets.file("token", "t0ken\n");
        let environment =
            [("SETTINGS_TEST_TOKEN_FILE", &*token), ("SETTINGS_TEST_SECRET_FILE", "/nowhere")];
        for arguments in ["tool ask", "tool ask jobs"] {
            match parsed::<Tool>(arguments, &environment).expect(arguments) {
                Tool::Ask(asking) => assert_eq!(asking.token.as_deref(), Some("t0ken")),
                Tool::Serve { .. } => unreachable!("{arguments}"),
            }
        }
        let error = parsed::<Tool>("tool serve", &environment).expect_err("no file");
        assert!(error.contains("SETTINGS_TEST_SECRET_FILE: /nowhere"), "{error}");
        assert!(parsed::<Tool>("tool serve --secret flag", &environment).is_ok());
    }

    #[test]
    fn help_shows_no_content_of_a_file() {
        let secrets = Secrets::new();
        let file = secrets.file("key", "hunter2");
        let help = parsed::<Config>("test --help", &[("SETTINGS_TEST_KEY_FILE", &file)]);
        let help = help.expect_err("help");
        assert!(help.contains("--key") && !help.contains("hunter2"), "{help}");
        Config::command().debug_assert();
    }
}
