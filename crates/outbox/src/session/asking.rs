use std::time::{Duration, Instant};

use super::Session;
use crate::cluster::{self, Answers, Limits, TopicAnswer};
use crate::topic::TopicId;

/// The wait before the next request to a cluster that did not answer.
const AGAIN: Duration = Duration::from_secs(1);

impl Session<'_> {
    /// Requests metadata of topics that are unknown or outdated. Runs in the background, since the
    /// cluster may not answer.
    pub(super) fn ask_cluster(&mut self, now: Instant) {
        if self.asking.is_some() || now < self.next_ask {
            return;
        }
        let due =
            self.topics.iter().filter(|(id, topic)| topic.has_question(*id, &self.flights, now));
        let due: Vec<_> = due.map(|(_, topic)| topic.on_cluster.to_string()).collect();
        if !due.is_empty() {
            self.asking = Some(tokio::spawn(cluster::ask(self.sender.client(), due)));
        }
    }

    pub(super) fn has_questions(&self, now: Instant) -> bool {
        self.topics.iter().any(|(id, topic)| topic.has_question(id, &self.flights, now))
    }

    /// Applies the cluster's answers.
    pub(super) fn take_answers(&mut self, answers: &Answers) {
        let now = Instant::now();
        let ids: Vec<TopicId> = self.topics.iter().map(|(id, _)| id).collect();
        let mut is_unavailable = answers.is_empty();
        for id in ids {
            match answers.get(&*self.topics.get(id).on_cluster) {
                Some(TopicAnswer::Exists { partitions, without_leader }) => {
                    self.take_partitions(id, *partitions, without_leader, now);
                }
                Some(TopicAnswer::Refused(code)) => {
                    let topic = self.topics.get_mut(id);
                    topic.confirmed = None;
                    // Otherwise none of its rows wait, and the next row triggers a new request.
                    if topic.has_aside() || self.flights.of_topic(id) > 0 {
                        topic.pause(now, &code.to_string());
                        self.leave_topic(id);
                    }
                }
                Some(TopicAnswer::Unavailable(error)) => {
                    is_unavailable = true;
                    if !self.cluster_is_unavailable {
                        tracing::warn!(
                            error = error as &dyn std::error::Error,
                            "Kafka unavailable, events wait in the outbox"
                        );
                    }
                }
                None => {}
            }
        }
        if is_unavailable {
            self.next_ask = now + AGAIN;
        }
        self.cluster_is_unavailable = is_unavailable;
        self.ask_limits(now);
    }

    /// Requests the batch limits of existing topics: unknown ones at once, the others periodically.
    fn ask_limits(&mut self, now: Instant) {
        if self.asking_limits.is_some() {
            return;
        }
        let due = self.topics.iter_mut().filter(|(_, topic)| topic.has_limit_question(now));
        let due = due.map(|(_, topic)| {
            topic.limit_asked = Some(now);
            topic.on_cluster.to_string()
        });
        let due: Vec<_> = due.collect();
        if !due.is_empty() {
            let settings = self.sender.settings().clone();
            self.asking_limits = Some(tokio::spawn(cluster::ask_limits(settings, due)));
        }
    }

    /// Applies the batch limits of topics.
    pub(super) fn take_limits(&mut self, limits: &Limits) {
        for (_, topic) in self.topics.iter_mut() {
            if let Some(limit) = limits.get(&*topic.on_cluster) {
                topic.set_limit(*limit);
            }
        }
        self.ask_limits(Instant::now());
    }

    fn take_partitions(&mut self, id: TopicId, count: usize, without_leader: &[i32], now: Instant) {
        let topic = self.topics.get_mut(id);
        topic.confirmed = Some(now);
        topic.set_leaders(without_leader, now);
        if topic.stands_still(id, &self.flights, now) {
            // A new number of partitions applies only when nothing is in flight, and the topic
            // would wait for this partition.
            topic.keep_count();
            return;
        }
        let known = topic.partitions.len();
        if known != 0 && known != count {
            // Keys move between partitions, so rows left aside for a partition are read as the
            // topic's.
            self.leave_topic(id);
        }
        let is_under_way = self.flights.of_topic(id) > 0;
        let topic = self.topics.get_mut(id);
        topic.set_count(count, now, is_under_way);
        topic.set_leaders(without_leader, now);
    }
}
