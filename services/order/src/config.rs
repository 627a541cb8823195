use std::str::FromStr;
use std::time::Duration;

use chassis::{ConfigError, Secret};
use clap::{Args, Parser};
use reqwest::Url;

/// Configuration, read at start from flags or the environment.
#[derive(Clone, Debug, Parser)]
#[command(name = "order", about = "Takes orders over HTTP and publishes their events")]
pub struct Config {
    /// Configuration that every service has.
    #[command(flatten)]
    pub chassis: chassis::Config,
    /// Services that are called over HTTP.
    #[command(flatten)]
    pub downstream: Downstream,
    /// How long the activity log is kept, as in `7d`
    #[arg(long, env = "ACTIVITY_RETENTION", value_parser = humantime::parse_duration, default_value = "7d")]
    pub activity_retention: Duration,
    /// Whether orders can be cancelled, `on` or `off`; keep it `off` until every instance runs a
    /// release that reads cancelled orders
    #[arg(long, env = "CANCELLATION", default_value = "on")]
    pub cancellation: Cancellation,
}

/// Whether `POST /orders/{id}/cancel` is enabled. Cancelled orders are read and shown in any case.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Cancellation {
    /// Orders can be cancelled.
    #[default]
    On,
    /// The route answers 409.
    Off,
}

impl FromStr for Cancellation {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            // An empty variable counts as unset.
            "" | "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => Err("it is neither on nor off"),
        }
    }
}

/// Addresses of services that are called over HTTP besides events: after the response, and before
/// it for those in `ORDER_DIRECT`. A service without an address is not called.
#[derive(Args, Clone, Debug, Default)]
#[group(skip)]
pub struct Downstream {
    /// Billing, `http://host:port`
    #[arg(long, env = "BILLING_URL", default_value = "")]
    pub billing_url: Address,
    /// Notification, `http://host:port`; it also sends the acknowledgement of each new order
    #[arg(long, env = "NOTIFICATION_URL", default_value = "")]
    pub notification_url: Address,
    /// Analytics, `http://host:port`; it also tracks each new order
    #[arg(long, env = "ANALYTICS_URL", default_value = "")]
    pub analytics_url: Address,
    /// The third-party inventory, `http://host:port`
    #[arg(long, env = "INVENTORY_URL", default_value = "")]
    pub inventory_url: Address,
    /// Credential for calls to the other services; an entry of their `EVENT_SENDERS`
    #[arg(long, env = "SERVICE_KEY", hide_env_values = true)]
    pub service_key: Option<Secret>,
    /// Services to call directly when an order is completed or cancelled, before the response, as
    /// in `billing,notification,analytics`
    #[arg(long, env = "ORDER_DIRECT", default_value = "")]
    pub direct: Direct,
}

impl Config {
    /// Creates a configuration with these common settings and defaults for all others.
    pub fn new(chassis: chassis::Config) -> Self {
        let activity_retention = Duration::from_hours(7 * 24);
        let (downstream, cancellation) = (Downstream::default(), Cancellation::default());
        Self { chassis, downstream, activity_retention, cancellation }
    }
}

impl AsRef<chassis::Config> for Config {
    fn as_ref(&self) -> &chassis::Config {
        &self.chassis
    }
}

impl Downstream {
    /// Checks that every service in `ORDER_DIRECT` has an address, and that calls have a key.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        for consumer in &self.direct.0 {
            if consumer.address(self).0.is_none() {
                let missing =
                    "ORDER_DIRECT names this service; give its address as http://host:port";
                return Err(ConfigError::Missing(consumer.variable(), missing));
            }
        }
        let services = [&self.billing_url, &self.notification_url, &self.analytics_url];
        if self.service_key.is_none() && services.iter().any(|address| address.0.is_some()) {
            let missing = "give the key that the other services know this one by";
            return Err(ConfigError::Missing("SERVICE_KEY", missing));
        }
        Ok(())
    }
}

/// An optional address. An empty text means none.
#[derive(Clone, Debug, Default)]
pub struct Address(pub(crate) Option<Url>);

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        // Only plain HTTP is supported, because the services share a private network. Other
        // networks need a proxy.
        let url = Url::parse(text).ok().filter(|url| url.scheme() == "http" && url.path() == "/");
        url.map(|url| Self(Some(url))).ok_or("it is not of the form http://host:port")
    }
}

/// Services to call directly, in call order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Direct(pub(crate) Vec<Consumer>);

/// A service that consumes order events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Consumer {
    Billing,
    Notification,
    Analytics,
}

impl Consumer {
    const ALL: [Self; 3] = [Self::Billing, Self::Notification, Self::Analytics];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Billing => "billing",
            Self::Notification => "notification",
            Self::Analytics => "analytics",
        }
    }

    pub(crate) fn address(self, downstream: &Downstream) -> &Address {
        match self {
            Self::Billing => &downstream.billing_url,
            Self::Notification => &downstream.notification_url,
            Self::Analytics => &downstream.analytics_url,
        }
    }

    fn variable(self) -> &'static str {
        match self {
            Self::Billing => "BILLING_URL",
            Self::Notification => "NOTIFICATION_URL",
            Self::Analytics => "ANALYTICS_URL",
        }
    }
}

impl FromStr for Direct {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut named = Vec::new();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let consumer = Consumer::ALL.into_iter().find(|consumer| consumer.name() == name);
            let consumer = consumer
                .ok_or_else(|| format!("{name} is none of billing, notification and analytics"))?;
            if named.contains(&consumer) {
                return Err(format!("{name} is named twice"));
            }
            named.push(consumer);
        }
        Ok(Self(named))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_called_directly_is_listed_by_name() {
        let names = |text: &str| {
            text.parse::<Direct>().map(|it| it.0.iter().map(|it| it.name()).collect::<Vec<_>>())
        };
        assert_eq!(names(""), Ok(vec![]));
        assert_eq!(names("analytics, billing"), Ok(vec!["analytics", "billing"]));
        assert!(names("billing,shipping").expect_err("unknown").contains("shipping"));
        assert!(names("billing,billing").expect_err("twice").contains("twice"));
    }

    #[test]
    fn what_is_told_has_an_address_and_a_key() {
        let mut downstream =
            Downstream { direct: "billing".parse().unwrap(), ..Default::default() };
        let error = downstream.check().expect_err("no address").to_string();
        assert!(error.contains("BILLING_URL"), "{error}");
        downstream.billing_url = "http://billing:8082".parse().unwrap();
        let error = downstream.check().expect_err("no key").to_string();
        assert!(error.contains("SERVICE_KEY"), "{error}");
        downstream.service_key = Some("key".parse().unwrap());
        assert!(downstream.check().is_ok());
        for wrong in ["billing:8082", "https://billing", "http://", "http://billing/api"] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }
}
