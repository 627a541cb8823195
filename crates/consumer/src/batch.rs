//! The fast path: many messages in one transaction. It is taken when many wait, and given up for good at the first
//! sign of trouble: then each message is handled by itself, so that one that fails costs its neighbours nothing.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use futures::FutureExt;
use telemetry::{TraceContext, query_span};
use tracing::{Instrument, Span};

use crate::failure::Failure;
use crate::handler::Decoded;
use crate::inbox::{Admission, Candidate, Outcome, admit_all};
use crate::lane::Work;
use crate::processor::Processor;
use crate::subscription::Route;

/// A batch that was given up.
#[derive(Debug, thiserror::Error)]
enum GivenUp {
    #[error("a handler panicked")]
    Panicked,
    #[error("it took too long")]
    TookTooLong,
}

struct Entry<'a> {
    message: Decoded<'a>,
    route: &'a Route,
}

impl Processor {
    /// Makes the effects of all messages in one transaction, or of none. Leaves out those that can't be read, and
    /// gives their indices.
    pub(crate) async fn attempt_all(&self, works: &[Work]) -> Result<Vec<usize>, Failure> {
        let span = self.batch_span(works);
        let began = Instant::now();
        let mut left_out = Vec::new();
        let mut entries = Vec::with_capacity(works.len());
        for (index, work) in works.iter().enumerate() {
            match self.decode(&work.delivery.record, work.span.clone()) {
                Ok((message, route)) => entries.push(Entry { message, route }),
                Err(_) => left_out.push(index),
            }
        }
        let caught = AssertUnwindSafe(self.process_all(&entries)).catch_unwind().instrument(span);
        let limit = self.options.handler_timeout * 2;
        let outcome = match tokio::time::timeout(limit, caught).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Failure::transient(GivenUp::Panicked)),
            Err(_) => Err(Failure::transient(GivenUp::TookTooLong)),
        };
        outcome?;
        self.instruments.batch(entries.len(), began.elapsed());
        Ok(left_out)
    }

    async fn process_all(&self, entries: &[Entry<'_>]) -> Result<(), Failure> {
        let candidates: Vec<_> = entries
            .iter()
            .map(|entry| Candidate { mode: entry.route.mode, envelope: &entry.message.envelope })
            .collect();
        let (mut tx, admissions) = async {
            let mut tx = self.pool.begin().await?;
            let admissions = admit_all(&mut tx, &self.group, &candidates).await?;
            Ok::<_, sqlx::Error>((tx, admissions))
        }
        .instrument(query_span("insert inbox"))
        .await?;

        let admitted = entries.iter().zip(&admissions);
        let admitted = admitted.filter(|(_, it)| matches!(it, Admission::Admitted { .. }));
        let admitted: Vec<_> = admitted.map(|(entry, _)| entry).collect();
        self.within_limit(async {
            for run in admitted.chunk_by(|one, next| one.event_type() == next.event_type()) {
                let messages: Vec<_> = run.iter().map(|entry| &entry.message).collect();
                for message in &messages {
                    sabotage::may_die_on(message.envelope.id.as_str());
                }
                run[0].route.handler.handle_batch(&mut tx, &messages).await?;
            }
            Ok(())
        })
        .await?;
        self.commit(tx).await?;
        for (entry, admission) in entries.iter().zip(admissions) {
            let outcome = match admission {
                Admission::Admitted { gap } => {
                    if gap {
                        self.instruments.gap();
                    }
                    Outcome::Processed
                }
                Admission::Settled(outcome) => outcome,
            };
            self.settled(&entry.message, outcome, 0);
        }
        Ok(())
    }

    /// The span of the batch, linked to those of its messages.
    fn batch_span(&self, works: &[Work]) -> Span {
        let topics = works.iter().map(|work| self.kafka.unprefixed(&work.delivery.record.topic));
        let topics = topics.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ");
        let span = tracing::info_span!(
            parent: None,
            "batch",
            otel.name = format!("process batch {topics}"),
            otel.kind = "consumer",
            messaging.system = "kafka",
            messaging.operation.name = "process",
            messaging.operation.r#type = "process",
            messaging.batch.message_count = works.len(),
            messaging.consumer.group.name = self.group,
        );
        for context in works.iter().filter_map(|work| TraceContext::of(&work.span)) {
            context.link(&span);
        }
        span
    }
}

impl Entry<'_> {
    fn event_type(&self) -> &str {
        &self.message.envelope.event_type
    }
}
