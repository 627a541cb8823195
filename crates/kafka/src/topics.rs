//! Compares the topics that owners and readers want with those of the cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use envelope::TopicSpec;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;

use crate::Settings;
use crate::admin::Admin;
use crate::configs::{Configs, is_unreachable};

const TIMEOUT: Duration = Duration::from_secs(10);

/// How a process handles topics: the value of `KAFKA_TOPICS`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TopicPolicy {
    /// Creates missing topics of its own, and reports problems.
    #[default]
    Create,
    /// Creates nothing, and reports missing topics and problems.
    Verify,
    /// Neither creates nor checks topics.
    Off,
}

impl FromStr for TopicPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "create" | "" => Ok(Self::Create),
            "verify" => Ok(Self::Verify),
            "off" => Ok(Self::Off),
            _ => Err("it is none of create, verify and off".to_owned()),
        }
    }
}

/// A problem of a topic. Its `Display` is a sentence with the remedy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicProblem {
    /// Name, without the prefix.
    pub topic: String,
    /// Kind of the problem.
    pub kind: TopicProblemKind,
}

/// Kind of a topic's problem.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TopicProblemKind {
    /// The topic does not exist, and its owner has to create it.
    Missing,
    /// The topic does not exist, belongs to this process, and `KAFKA_TOPICS` does not allow its
    /// creation.
    NotCreated,
    /// The topic does not exist, and the cluster refuses to create it.
    Refused(RDKafkaErrorCode),
    /// The cluster does not allow this process to describe it, or its name is invalid.
    Unreadable(RDKafkaErrorCode),
    /// A setting differs from the owner's specification.
    Setting {
        /// Name of the setting.
        name: &'static str,
        /// Value of the specification.
        wanted: String,
        /// Value on the cluster.
        found: String,
    },
}

impl TopicProblem {
    /// Returns whether the topic can neither be written nor read.
    pub fn is_missing(&self) -> bool {
        !matches!(self.kind, TopicProblemKind::Setting { .. })
    }
}

impl fmt::Display for TopicProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topic = &self.topic;
        match &self.kind {
            TopicProblemKind::Missing => {
                write!(f, "the topic {topic} is missing: its publisher has to create it")
            }
            TopicProblemKind::NotCreated => write!(
                f,
                "the topic {topic} is missing: create it, or start with KAFKA_TOPICS=create"
            ),
            TopicProblemKind::Refused(code) => {
                write!(
                    f,
                    "the topic {topic} is missing, and the cluster refuses to create it: {code}"
                )
            }
            TopicProblemKind::Unreadable(code) => {
                write!(f, "the topic {topic} can't be read: {code}")
            }
            TopicProblemKind::Setting { name, wanted, found } => {
                write!(f, "the topic {topic} has {name} {found}, and its owner wants {wanted}")
            }
        }
    }
}

/// The cluster did not answer.
#[derive(Debug, thiserror::Error)]
#[error("the topics of the cluster could not be read")]
pub struct TopicsError(#[from] KafkaError);

/// Topics of a process.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Topics {
    /// Topics that the process owns.
    pub owned: Vec<TopicSpec>,
    /// Topics of other publishers that it reads, by names without the prefix.
    pub needed: Vec<String>,
}

/// Creates missing topics, if `policy` allows it, and returns the remaining problems.
///
/// No permission to create topics is needed if all exist. A setting that can't be read because of a
/// missing permission is not a problem by itself. Replication is the cluster's default. Existing
/// topics are never changed.
///
/// ```no_run
/// # async fn example(settings: kafka::Settings) -> Result<(), kafka::TopicsError> {
/// use kafka::{TopicPolicy, TopicSpec, Topics};
///
/// let owned = vec![TopicSpec::new("parcel.shipped").partitions(12)];
/// let topics = Topics { owned, needed: vec!["parcel.returned".into()] };
/// // `Verify` creates nothing and names what an administrator has to do.
/// for problem in kafka::ensure(&settings, &topics, TopicPolicy::Verify).await? {
///     eprintln!("{problem}");
/// }
/// # Ok(()) }
/// ```
///
/// # Errors
/// Fails with [`TopicsError`] if the cluster can't be reached. It may be dropped and called again.
pub async fn ensure(
    settings: &Settings,
    topics: &Topics,
    policy: TopicPolicy,
) -> Result<Vec<TopicProblem>, TopicsError> {
    if policy == TopicPolicy::Off {
        return Ok(Vec::new());
    }
    let names = topics.owned.iter().map(|spec| &*spec.name);
    let names = names.chain(topics.needed.iter().map(String::as_str));
    let mut found = look(settings, names.map(str::to_owned).collect()).await?;
    let mut problems = Vec::new();
    let missing: Vec<_> =
        topics.owned.iter().filter(|spec| found[&*spec.name] == Found::Missing).collect();
    if policy == TopicPolicy::Create && !missing.is_empty() {
        for (spec, refused) in create(settings, &missing).await? {
            let created = refused.map_or(Found::JustCreated, Found::Refused);
            found.insert(spec.name.clone().into_owned(), created);
        }
    }
    for (topic, found) in &found {
        let owned = topics.owned.iter().any(|spec| spec.name == *topic);
        let kind = match found {
            Found::Missing if owned => TopicProblemKind::NotCreated,
            Found::Missing => TopicProblemKind::Missing,
            Found::Refused(code) => TopicProblemKind::Refused(*code),
            Found::Unreadable(code) => TopicProblemKind::Unreadable(*code),
            Found::JustCreated | Found::Partitions(_) => continue,
        };
        problems.push(TopicProblem { topic: topic.clone(), kind });
    }
    problems.extend(verify(settings, &topics.owned, &found).await?);
    Ok(problems)
}

/// The cluster's answer about a topic.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Found {
    Missing,
    Refused(RDKafkaErrorCode),
    Unreadable(RDKafkaErrorCode),
    JustCreated,
    Partitions(i32),
}

/// Requests each topic by name, because a list of all topics may be long and needs further
/// permissions.
async fn look(
    settings: &Settings,
    names: Vec<String>,
) -> Result<BTreeMap<String, Found>, KafkaError> {
    let client: BaseConsumer = settings.client().create()?;
    let settings = settings.clone();
    let asking = tokio::task::spawn_blocking(move || {
        let found = names.into_iter().map(|name| {
            let on_cluster = settings.prefixed(&name);
            let metadata = client.fetch_metadata(Some(&on_cluster), TIMEOUT)?;
            let topic = metadata.topics().iter().find(|topic| topic.name() == on_cluster);
            let found = topic.map_or(Found::Missing, |topic| match topic.error() {
                Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) => Found::Missing,
                // It exists, and one of its partitions has no leader for now.
                Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE) | None => {
                    let count = topic.partitions().len();
                    Found::Partitions(i32::try_from(count).unwrap_or(i32::MAX))
                }
                Some(code) => Found::Unreadable(code.into()),
            });
            Ok((name, found))
        });
        found.collect::<Result<_, KafkaError>>()
    });
    // The task neither panics nor is aborted.
    asking.await.unwrap_or_else(|_| Err(KafkaError::Canceled))
}

/// Creates topics, and returns the refusal of each, if any.
async fn create<'a>(
    settings: &Settings,
    specs: &[&'a TopicSpec],
) -> Result<Vec<(&'a TopicSpec, Option<RDKafkaErrorCode>)>, KafkaError> {
    let admin = Admin::new(settings)?;
    let rows: Vec<_> = specs
        .iter()
        .map(|spec| {
            let retention = milliseconds(spec.retention).to_string();
            (settings.prefixed(&spec.name), retention, spec.max_record_bytes.to_string())
        })
        .collect();
    let wanted: Vec<_> = specs
        .iter()
        .zip(&rows)
        .map(|(spec, (name, retention, max_bytes))| {
            NewTopic::new(name, spec.partitions, TopicReplication::Fixed(-1))
                .set("retention.ms", retention)
                .set("max.message.bytes", max_bytes)
        })
        .collect();
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
    let answers = admin.client()?.create_topics(&wanted, &options).await?;
    let refused = answers.into_iter().map(|answer| match answer {
        // Another client has created it.
        Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => None,
        Err((_, code)) => Some(code),
    });
    Ok(specs.iter().copied().zip(refused).collect())
}

/// Compares existing topics with their owner's specification.
async fn verify(
    settings: &Settings,
    owned: &[TopicSpec],
    found: &BTreeMap<String, Found>,
) -> Result<Vec<TopicProblem>, KafkaError> {
    let existing = owned.iter().filter_map(|spec| match found.get(&*spec.name)? {
        Found::Partitions(partitions) => Some((spec, *partitions)),
        _ => None,
    });
    let existing: Vec<_> = existing.collect();
    let names: Vec<_> = existing.iter().map(|(spec, _)| settings.prefixed(&spec.name)).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    // Unreadable settings are not a problem by themselves: a proxy may not support the request.
    let configs = match Configs::ask(settings, &names).await {
        Ok(configs) => Some(configs),
        Err(error) if is_unreachable(&error) => return Err(error),
        Err(_) => None,
    };
    let mut problems = Vec::new();
    for ((spec, partitions), name) in existing.iter().zip(&names) {
        let mut wrong = |name: &'static str, wanted: String, found: String| {
            let kind = TopicProblemKind::Setting { name, wanted, found };
            problems.push(TopicProblem { topic: spec.name.clone().into_owned(), kind });
        };
        if *partitions < spec.partitions {
            wrong("partitions", spec.partitions.to_string(), partitions.to_string());
        }
        let config = configs.as_ref().and_then(|configs| configs.of(name).ok());
        let Some(config) = config else { continue };
        if let Some(found) = config.number("max.message.bytes")
            && found < i64::try_from(spec.max_record_bytes).unwrap_or(i64::MAX)
        {
            wrong("max.message.bytes", spec.max_record_bytes.to_string(), found.to_string());
        }
        let wanted = milliseconds(spec.retention);
        if let Some(found) = config.number("retention.ms")
            && found >= 0
            && (wanted < 0 || found < wanted)
        {
            wrong("retention.ms", wanted.to_string(), found.to_string());
        }
        if let Some(found) = config.text("cleanup.policy").filter(|found| found.contains("compact"))
        {
            wrong("cleanup.policy", "delete".to_owned(), found.to_owned());
        }
    }
    Ok(problems)
}

/// Returns Kafka's notation of a retention; -1 is for ever.
fn milliseconds(retention: Option<Duration>) -> i64 {
    retention.map_or(-1, |kept| i64::try_from(kept.as_millis()).unwrap_or(i64::MAX))
}
