use std::{
    env,
    ffi::OsStr,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Error, Progress, folder::fingerprint, jars, postgres_artifact};

const JAVA_AT_LEAST: u32 = 17;
const POSTGRES_AT_LEAST: u32 = 14;
const MACOS: bool = cfg!(target_os = "macos");
const INSTALL_POSTGRES: &str =
    if MACOS { "brew install postgresql@17" } else { "sudo apt-get install -y postgresql" };

/// The installed programs that run the servers.
#[derive(Debug, Clone)]
pub struct Tools {
    pub(crate) java: PathBuf,
    pub(crate) maven: Option<PathBuf>,
    postgres: PostgresPrograms,
    postgres_version: u32,
    java_version: u32,
    /// Distinguishes builds of Java.
    pub(crate) java_build: String,
}

/// The programs `initdb` and `postgres`.
#[derive(Debug, Clone)]
enum PostgresPrograms {
    Installed(PathBuf),
    /// In this folder of the cache, once they are fetched.
    Artifact(PathBuf),
}

impl Tools {
    /// Looks for Java 17 or newer (`JAVA_HOME` first), Postgres 14 or newer (only in `PG_BIN` if
    /// that is set, otherwise the newest in the usual places), and Maven if something has to be
    /// fetched.
    ///
    /// If no such Postgres is installed, or with `PG_BIN=fetch`, the first
    /// [`Postgres::start`](crate::Postgres::start) fetches it from Maven Central, unless there is
    /// no artifact for this platform (musl).
    ///
    /// # Errors
    /// [`MissingTools`], which names all missing programs at once.
    pub fn find() -> Result<Self, MissingTools> {
        let (java, postgres) = (find_java(), find_postgres());
        let maven = on_path("mvn");
        let mut missing = Vec::new();
        missing.extend(java.as_ref().err().cloned());
        let fetches = missing_downloads(postgres.as_ref().ok().map(|(_, programs)| programs));
        if maven.is_none() && !fetches.is_empty() {
            missing.push(missing_maven(&fetches.join(" and ")));
        }
        missing.extend(postgres.as_ref().err().cloned());
        match (java, postgres) {
            (Ok((java_version, java)), Ok((postgres_version, postgres))) if missing.is_empty() => {
                let java_build =
                    fingerprint(output(&java, "-version").unwrap_or_default().as_bytes());
                Ok(Self { java, maven, postgres, postgres_version, java_version, java_build })
            }
            _ => Err(MissingTools(missing)),
        }
    }

    /// Returns Postgres' major version.
    pub fn postgres_version(&self) -> u32 {
        self.postgres_version
    }

    /// Returns the folder of `initdb` and `postgres`, and fetches them first if needed.
    pub(crate) async fn postgres_programs(
        &self,
        progress: &dyn Progress,
    ) -> Result<PathBuf, Error> {
        match &self.postgres {
            PostgresPrograms::Installed(folder) => Ok(folder.clone()),
            PostgresPrograms::Artifact(folder) => {
                postgres_artifact::fetch(folder, self, progress).await
            }
        }
    }

    /// Returns the path of a program that comes with an installed Postgres, such as `psql` or
    /// `pgbench`.
    ///
    /// # Errors
    /// [`MissingTools`] if it is not installed. The fetched Postgres has neither.
    pub fn postgres_program(&self, name: &str) -> Result<PathBuf, MissingTools> {
        let program = match &self.postgres {
            PostgresPrograms::Installed(folder) => {
                // The path may have links to only a few of them.
                let server = folder.join("postgres");
                Some(server.canonicalize().unwrap_or(server).with_file_name(name))
            }
            PostgresPrograms::Artifact(_) => None,
        };
        program.filter(|program| program.exists()).ok_or_else(|| {
            let what = format!("{name}, which comes with the packages of PostgreSQL");
            MissingTools(vec![Missing { what, install: INSTALL_POSTGRES }])
        })
    }

    /// Returns Java's major version.
    pub fn java_version(&self) -> u32 {
        self.java_version
    }
}

/// Programs that have to be installed. `Display` lists each with the command that installs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingTools(Vec<Missing>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Missing {
    what: String,
    install: &'static str,
}

impl MissingTools {
    pub(crate) fn maven(to_fetch: &str) -> Self {
        Self(vec![missing_maven(to_fetch)])
    }
}

impl fmt::Display for MissingTools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not installed:")?;
        self.0.iter().try_for_each(|one| write!(f, "\n  {}\n      {}", one.what, one.install))
    }
}

impl std::error::Error for MissingTools {}

fn missing_maven(to_fetch: &str) -> Missing {
    Missing {
        what: format!("Maven, which fetches {to_fetch} (once)"),
        install: if MACOS { "brew install maven" } else { "sudo apt-get install -y maven" },
    }
}

fn missing_downloads(postgres: Option<&PostgresPrograms>) -> Vec<&'static str> {
    let kafka = (!jars::folder().exists()).then_some("Kafka");
    let postgres = match postgres {
        Some(PostgresPrograms::Artifact(folder)) if !folder.exists() => Some("Postgres"),
        _ => None,
    };
    kafka.into_iter().chain(postgres).collect()
}

fn find_java() -> Result<(u32, PathBuf), Missing> {
    let home = env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    let brewed = ["/opt/homebrew/opt", "/usr/local/opt"].map(|opt| bins(opt, "openjdk", "java"));
    let candidates = home.into_iter().chain(on_path("java")).chain(brewed.into_iter().flatten());
    newest_or_missing(
        // The first suitable one instead of the newest, so that `JAVA_HOME` takes precedence.
        candidates.filter_map(|java| Some((java_version(&java)?, java))),
        JAVA_AT_LEAST,
        "Java",
        if MACOS {
            "brew install openjdk@17"
        } else {
            "sudo apt-get install -y openjdk-17-jre-headless"
        },
        |found| found.iter().find(|(version, _)| *version >= JAVA_AT_LEAST).cloned(),
    )
}

fn find_postgres() -> Result<(u32, PostgresPrograms), Missing> {
    let set = env::var_os("PG_BIN");
    let artifact = postgres_artifact::folder()
        .map(|folder| (postgres_artifact::MAJOR_VERSION, PostgresPrograms::Artifact(folder)));
    match artifact {
        Some(artifact) if set.as_deref() == Some("fetch".as_ref()) => Ok(artifact),
        artifact => find_installed_postgres(set.as_deref())
            .or_else(|missing| artifact.filter(|_| set.is_none()).ok_or(missing)),
    }
}

fn find_installed_postgres(set: Option<&OsStr>) -> Result<(u32, PostgresPrograms), Missing> {
    let candidates = if let Some(folder) = set {
        vec![PathBuf::from(folder).join("postgres")]
    } else {
        let configured = output("pg_config".as_ref(), "--bindir")
            .map(|dir| Path::new(dir.trim()).join("postgres"));
        let mut all: Vec<_> = configured.into_iter().chain(on_path("postgres")).collect();
        for (parent, prefix) in [
            ("/usr/lib/postgresql", ""),
            ("/usr", "pgsql-"),
            ("/opt/homebrew/opt", "postgresql"),
            ("/usr/local/opt", "postgresql"),
        ] {
            all.extend(bins(parent, prefix, "postgres"));
        }
        all
    };
    let servers =
        candidates.into_iter().filter(|postgres| postgres.with_file_name("initdb").exists());
    let (version, postgres) = newest_or_missing(
        servers.filter_map(|postgres| {
            Some((first_number(&output(&postgres, "--version")?)?, postgres))
        }),
        POSTGRES_AT_LEAST,
        "PostgreSQL",
        INSTALL_POSTGRES,
        |found| found.iter().filter(|(version, _)| *version >= POSTGRES_AT_LEAST).max().cloned(),
    )?;
    let folder = postgres.parent().unwrap_or(Path::new(""));
    Ok((version, PostgresPrograms::Installed(folder.into())))
}

fn newest_or_missing(
    found: impl Iterator<Item = (u32, PathBuf)>,
    at_least: u32,
    what: &str,
    install: &'static str,
    choose: impl FnOnce(&[(u32, PathBuf)]) -> Option<(u32, PathBuf)>,
) -> Result<(u32, PathBuf), Missing> {
    let found: Vec<_> = found.collect();
    choose(&found).ok_or_else(|| {
        let instead = found
            .iter()
            .max()
            .map(|(version, path)| format!(" (found {version}: {})", path.display()));
        Missing {
            what: format!("{what} {at_least} or newer{}", instead.unwrap_or_default()),
            install,
        }
    })
}

/// Returns the existing paths `<parent>/<prefix>*/bin/<program>`.
fn bins(parent: &str, prefix: &str, program: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path().join("bin").join(program))
        .filter(|path| path.exists())
        .collect()
}

fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// Returns the output of a program, or `None` if it fails (as macOS' `java` does without an
/// installed Java).
fn output(program: &Path, argument: &str) -> Option<String> {
    let output = Command::new(program)
        .arg(argument)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn java_version(java: &Path) -> Option<u32> {
    // Other lines may precede it: `Picked up JAVA_TOOL_OPTIONS: ...`
    let text = output(java, "-version")?;
    let version = text.split_once("version \"")?.1;
    // Java 8 reported 1.8.
    first_number(version.strip_prefix("1.").unwrap_or(version))
}

fn first_number(text: &str) -> Option<u32> {
    let digits = &text[text.find(|c: char| c.is_ascii_digit())?..];
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
