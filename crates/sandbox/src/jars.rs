use std::path::PathBuf;

use crate::{
    Error, Progress, Tools,
    maven::{Artifact, cache},
};

/// Version in the pom.
pub(crate) const KAFKA_VERSION: &str = "4.3.1";
const KAFKA: Artifact = Artifact {
    name: "Kafka 4.3.1",
    megabytes: 45,
    pom: include_str!("../pom.xml"),
    arguments: &["dependency:copy-dependencies", "-DincludeScope=runtime"],
};

/// Returns the folder of Kafka's jars in the user's cache.
pub(crate) fn folder() -> PathBuf {
    cache().join(KAFKA.folder_name())
}

/// Returns the file next to it for the archive of Kafka's classes, which only the same build of
/// Java can read.
pub(crate) fn archive(tools: &Tools) -> PathBuf {
    cache().join(format!("{}-java-{}.jsa", KAFKA.folder_name(), tools.java_build))
}

/// Returns the folder of Kafka's jars, and fetches them first if needed. An interrupted or
/// concurrent fetch never leaves an incomplete folder.
///
/// # Errors
/// [`Error::MissingTools`] without Maven, [`Error::Fetch`] with its last lines if it fails,
/// [`Error::Io`] if the cache can't be written.
pub async fn kafka_jars(tools: &Tools, progress: &dyn Progress) -> Result<PathBuf, Error> {
    let folder = folder();
    KAFKA.fetch(&folder, tools, progress).await?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_poms() {
        let version = format!("<version>{KAFKA_VERSION}</version>");
        assert_eq!(KAFKA.pom.matches(&version).count(), 3);
        assert_eq!(KAFKA.name, format!("Kafka {KAFKA_VERSION}"));
    }
}
