//! The services that are operated, and where their admin ports are by default.

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
