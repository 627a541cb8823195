use std::{env, fs, path::PathBuf, process::Command};

use crate::{
    Error, Life, MissingTools, Process, Progress, Tools,
    error::While,
    folder::{fingerprint, make_whole},
    step,
};

const POM: &str = include_str!("../pom.xml");
/// The version in the pom.
pub(crate) const KAFKA_VERSION: &str = "4.3.1";

/// The folder of the user's cache that holds Kafka's jars once they are fetched. Another pom means
/// another folder.
pub(crate) fn folder() -> PathBuf {
    cached("")
}

/// The file beside it for the classes that Kafka loads, which only the same build of Java can read.
pub(crate) fn archive(tools: &Tools) -> PathBuf {
    cached(&format!("-java-{}.jsa", tools.java_build))
}

fn cached(suffix: &str) -> PathBuf {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let name = format!("kafka-{KAFKA_VERSION}-{}{suffix}", fingerprint(POM.as_bytes()));
    cache.unwrap_or_else(env::temp_dir).join("orderflow").join(name)
}

/// The folder of Kafka's jars, fetched first if it is not there. Interrupted or done twice at the
/// same time, it never leaves half of them.
///
/// # Errors
/// [`Error::MissingTools`] without Maven, [`Error::Fetch`] with its last lines if it fails,
/// [`Error::Io`] if the cache can't be written.
pub async fn kafka_jars(tools: &Tools, progress: &dyn Progress) -> Result<PathBuf, Error> {
    let folder = folder();
    if folder.exists() {
        return Ok(folder);
    }
    let fetch = make_whole(&folder, async |new| {
        let maven = tools.maven.as_ref().ok_or_else(MissingTools::maven)?;
        let pom = new.with_file_name("pom.xml");
        fs::write(&pom, POM).doing(|| format!("write {}", pom.display()))?;
        let mut command = Command::new(maven);
        command.args(["-q", "-B", "-f"]).arg(&pom).args([
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            &format!("-DoutputDirectory={}", new.display()),
        ]);
        let log = new.with_file_name("maven.log");
        let maven = Process::spawn("Maven", command, &log, Life::WithParent)?;
        maven.succeed().await.map_err(|error| match error {
            Error::Ended { tail, .. } => Error::Fetch { tail },
            other => other,
        })
    });
    let name = format!("fetching Kafka {KAFKA_VERSION} (once, 45 MB)");
    step(progress, &name, fetch, |()| format!("Kafka {KAFKA_VERSION} fetched")).await?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_is_the_poms() {
        let version = format!("<version>{}</version>", super::KAFKA_VERSION);
        assert_eq!(super::POM.matches(&version).count(), 3);
    }
}
