//! `/metrics`. Series without a measurement are absent, so that `absent()` and missing data are
//! visible.

use std::time::UNIX_EPOCH;

use prometheus::{Encoder, GaugeVec, Opts, Registry, TextEncoder};

use super::service_state::{JOB_LABEL, JOBS_DEAD, ServiceState};
use crate::alerts::Active;
use crate::client::{OUTBOX_AGE, OUTBOX_DEPTH};
use crate::lag::{GroupLag, Lag};

/// Returns the metrics in Prometheus's text format 0.0.4.
pub(crate) fn render(
    services: Option<&[ServiceState]>,
    lag: Option<&Lag>,
    alerts: &[Active],
) -> Result<String, prometheus::Error> {
    let exposition = Exposition { registry: Registry::new() };
    if let Some(lag) = lag {
        exposition.lag(lag)?;
    }
    exposition.services(services.unwrap_or_default())?;
    exposition.alerts(alerts)?;
    let mut text = Vec::new();
    TextEncoder::new().encode(&exposition.registry.gather(), &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

struct Exposition {
    registry: Registry,
}

const PARTITION: [&str; 3] = ["consumergroup", "topic", "partition"];
const GROUP: [&str; 1] = ["consumergroup"];

#[allow(clippy::cast_precision_loss)] // Samples are floating point.
impl Exposition {
    /// Creates a metric. It is not exported until it has a series.
    fn gauge(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<GaugeVec, prometheus::Error> {
        let gauge = GaugeVec::new(Opts::new(name, help), labels)?;
        self.registry.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    fn lag(&self, lag: &Lag) -> Result<(), prometheus::Error> {
        let measured = self.gauge(
            "orderflow_lag_measured_groups",
            "Consumer groups whose lag was measured",
            &[],
        )?;
        let known = lag.groups.iter().filter(|it| it.unknown.is_none());
        measured.with_label_values::<&str>(&[]).set(known.count() as f64);
        self.partitions(lag)?;
        let ours = self.gauge(
            "orderflow_group_info",
            "1 for each consumer group of the services",
            &["consumergroup", "group", "service"],
        )?;
        let seconds = self.gauge(
            "kafka_consumergroup_lag_seconds",
            "Age of the oldest message that a group has not consumed",
            &GROUP,
        )?;
        let share = self.gauge(
            "kafka_consumergroup_retention_share",
            "Age of that message as a share of its topic's retention",
            &GROUP,
        )?;
        let lost = self.gauge(
            "kafka_consumergroup_messages_lost",
            "Messages that were deleted before a group consumed them",
            &GROUP,
        )?;
        let stalled = self.gauge(
            "kafka_consumergroup_stalled",
            "1 if a group is behind and makes no progress for longer than any retry takes",
            &GROUP,
        )?;
        let members = self.gauge(
            "kafka_consumergroup_members",
            "Consumers that have joined a group",
            &GROUP,
        )?;
        for group in &lag.groups {
            let name = [&*group.name];
            if let Some(service) = &group.service {
                ours.with_label_values(&[&*group.name, &group.group, service]).set(1.0);
            }
            members.with_label_values(&name).set(group.members as f64);
            if let Some(age) = group.age() {
                seconds.with_label_values(&name).set(age.as_secs_f64());
            }
            if !group.is_known() {
                continue;
            }
            if let Some(of_retention) = group.share_of_retention() {
                share.with_label_values(&name).set(of_retention);
            }
            lost.with_label_values(&name).set(group.lost() as f64);
            stalled.with_label_values(&name).set(f64::from(u8::from(group.is_stalled())));
        }
        Ok(())
    }

    /// Adds the metrics of partitions, with the names that other exporters use.
    fn partitions(&self, lag: &Lag) -> Result<(), prometheus::Error> {
        let behind = self.gauge(
            "kafka_consumergroup_lag",
            "Messages that a group has not consumed",
            &PARTITION,
        )?;
        let offset = self.gauge(
            "kafka_consumergroup_current_offset",
            "Offset that a group has committed",
            &PARTITION,
        )?;
        let end = self.gauge(
            "kafka_topic_partition_current_offset",
            "Offset after the last message",
            &PARTITION[1..],
        )?;
        let each = |group: &GroupLag| {
            group
                .partitions
                .clone()
                .into_iter()
                .map({
                    let name = group.name.clone();
                    move |it| (name.clone(), it)
                })
                .collect::<Vec<_>>()
        };
        for (group, it) in lag.groups.iter().flat_map(each) {
            let partition = it.at.partition.to_string();
            let labels = [&*group, &it.at.topic, &partition];
            behind.with_label_values(&labels).set(it.messages as f64);
            if let Some(committed) = it.committed {
                offset.with_label_values(&labels).set(committed as f64);
            }
            end.with_label_values(&labels[1..]).set(it.ends.high as f64);
        }
        Ok(())
    }

    fn services(&self, services: &[ServiceState]) -> Result<(), prometheus::Error> {
        let up = self.gauge("orderflow_service_up", "1 if a service is ready", &["service"])?;
        let failed = self.gauge(
            "orderflow_failed_jobs",
            "Jobs that have failed for good, counted up to 1,000 a kind",
            &["service", "kind"],
        )?;
        let age = self.gauge(
            "orderflow_outbox_age_seconds",
            "Age of the oldest event in a service's outbox",
            &["service"],
        )?;
        let depth =
            self.gauge("orderflow_outbox_depth", "Events in a service's outbox", &["service"])?;
        for state in services {
            let service = [&*state.service];
            up.with_label_values(&service).set(f64::from(u8::from(state.down.is_none())));
            for (metric, gauge) in [(OUTBOX_AGE, &age), (OUTBOX_DEPTH, &depth)] {
                if let Some(value) = state.samples_of(metric).map(|it| it.value).reduce(f64::max) {
                    gauge.with_label_values(&service).set(value);
                }
            }
            if let Some(jobs) = &state.failed_jobs {
                // A kind without failed jobs is 0.
                for kind in
                    state.samples_of(JOBS_DEAD).map(|it| it.label(JOB_LABEL).unwrap_or_default())
                {
                    failed.with_label_values(&[service[0], kind]).set(0.0);
                }
                for (kind, count) in jobs {
                    failed.with_label_values(&[service[0], kind]).set(*count as f64);
                }
            }
        }
        self.letters(services)
    }

    fn letters(&self, services: &[ServiceState]) -> Result<(), prometheus::Error> {
        let letters =
            self.gauge("orderflow_dead_letters", "Dead letters by status", &["group", "status"])?;
        let newest = self.gauge(
            "orderflow_newest_failure_reason_timestamp_seconds",
            "When dead letters for a new reason, or for one that had been resolved, were first met",
            &["group"],
        )?;
        let last = self.gauge(
            "orderflow_last_dead_letter_timestamp_seconds",
            "When the last message of a group was dead-lettered, by any instance",
            &["group"],
        )?;
        for (group, of) in services.iter().flat_map(|it| it.letters.iter().flatten()) {
            for (status, count) in &of.by_status {
                letters.with_label_values(&[&**group, status]).set(*count as f64);
            }
            for (gauge, at) in [(&newest, of.newest_reason), (&last, of.last)] {
                if let Some(at) = at.and_then(|at| at.duration_since(UNIX_EPOCH).ok()) {
                    gauge.with_label_values(&[&**group]).set(at.as_secs_f64());
                }
            }
        }
        Ok(())
    }

    fn alerts(&self, alerts: &[Active]) -> Result<(), prometheus::Error> {
        let labels = ["alert", "service", "group", "kind"];
        let firing = self.gauge("orderflow_alert", "1 while an alert fires", &labels)?;
        for Active { condition, .. } in alerts {
            let subject = &condition.subject;
            let labels = [condition.rule.name, &subject.service, &subject.group, &subject.kind];
            firing.with_label_values(&labels).set(1.0);
        }
        Ok(())
    }
}
