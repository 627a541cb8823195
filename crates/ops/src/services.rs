//! The services that are operated, and where their admin ports are.

use crate::error::Error;

/// The admin ports on this machine; see [`admin_of`].
pub(crate) const LOCAL: &str = "http://127.0.0.1:{port}";

/// A service.
pub(crate) struct Service {
    /// Its name: the first part of the names of its consumer groups.
    pub(crate) name: &'static str,
    /// The port that its admin API listens on, unless `ADMIN_ADDR` says otherwise.
    pub(crate) admin: u16,
}

/// The services of this repository. Those of another system are reached with `--admin`.
pub(crate) const SERVICES: [Service; 4] = [
    Service { name: "order", admin: 9181 },
    Service { name: "billing", admin: 9182 },
    Service { name: "notification", admin: 9183 },
    Service { name: "analytics", admin: 9184 },
];

impl Service {
    /// Returns the URL of its admin port; see [`admin_of`].
    pub(crate) fn admin_url(&self, pattern: &str) -> String {
        pattern
            .trim_end_matches('/')
            .replace("{service}", self.name)
            .replace("{port}", &self.admin.to_string())
    }
}

/// Returns the URL of the admin port of a group's service: the pattern, with the service's name for `{service}` and its
/// port for `{port}`. A group is named after its service: `analytics`, `analytics.2`.
pub(crate) fn admin_of(pattern: &str, group: &str) -> Result<String, Error> {
    let name = group.split('.').next().unwrap_or_default();
    if let Some(known) = SERVICES.iter().find(|service| service.name == name) {
        return Ok(known.admin_url(pattern));
    }
    if !pattern.contains("{port}") {
        return Ok(pattern.trim_end_matches('/').replace("{service}", name));
    }
    let all: Vec<_> = SERVICES.iter().map(|service| service.name).collect();
    let all = all.join(", ");
    Err(Error::Refused(format!(
        "no service has the group {group}; there are {all}, and for another one give --admin"
    )))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_port_is_that_of_the_groups_service() {
        let by_name = "http://{service}:{port}/";
        assert_eq!(admin_of(LOCAL, "billing").unwrap(), "http://127.0.0.1:9182");
        assert_eq!(admin_of(by_name, "analytics.2").unwrap(), "http://analytics:9184");
        assert_eq!(admin_of("http://there:1", "else").unwrap(), "http://there:1");
        let error = admin_of(by_name, "else").unwrap_err();
        assert!(error.to_string().contains("--admin"), "{error}");
    }
}
