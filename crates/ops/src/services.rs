//! The services of the system, and their admin ports.

use clap::Args;
use reqwest::Url;

use crate::client::{Client, Token};
use crate::error::Error;

/// URL of the admin ports on this machine.
const LOCAL: &str = "http://127.0.0.1:{port}";

/// A service.
struct Service {
    /// The service's name, with which the names of its consumer groups begin.
    name: &'static str,
    /// Default port of the admin API; `ADMIN_ADDR` may change it.
    admin: u16,
}

/// The services of this repository. `ORDERFLOW_SERVICES` lists those of another system.
const SERVICES: [Service; 4] = [
    Service { name: "order", admin: 9181 },
    Service { name: "billing", admin: 9182 },
    Service { name: "notification", admin: 9183 },
    Service { name: "analytics", admin: 9184 },
];

/// Where the services are, and the operator's token.
#[derive(Args)]
pub(crate) struct Target {
    /// The admin port of each service, `order=http://..,billing=http://..`; of any instance
    #[arg(long, env = "ORDERFLOW_SERVICES", default_value = "", hide_default_value = true)]
    #[arg(global = true)]
    services: String,
    /// The admin ports, unless `ORDERFLOW_SERVICES` lists them; `{service}` and `{port}` are filled
    /// in
    #[arg(long, env = "ADMIN_URL", default_value = LOCAL, global = true)]
    admin: String,
    /// An operator's token
    #[arg(long, env = "OPERATOR_TOKEN", default_value = "", hide_env_values = true)]
    #[arg(hide_default_value = true, global = true)]
    token: String,
}

/// The services of the system.
#[derive(Clone)]
pub(crate) struct Services {
    clients: Vec<Client>,
    /// URL pattern for other services.
    pattern: Option<String>,
    token: Token,
}

impl Services {
    /// Reads the arguments. Fails if a URL is invalid or a name occurs twice.
    pub(crate) fn new(target: &Target) -> Result<Self, Error> {
        let token = Token(target.token.trim().to_owned());
        if token.0.contains(char::is_control) {
            return Err(Error::Refused("OPERATOR_TOKEN holds a control character".into()));
        }
        let listed = target.services.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let mut services = Self { clients: Vec::new(), pattern: None, token };
        for entry in listed {
            let (name, url) = entry.split_once('=').ok_or_else(|| {
                Error::Refused(format!(
                    "ORDERFLOW_SERVICES: {entry} is not of the form name=http://.."
                ))
            })?;
            services.add(name.trim(), url.trim())?;
        }
        if services.clients.is_empty() {
            for Service { name, admin } in &SERVICES {
                services.add(name, &filled(&target.admin, name, &admin.to_string()))?;
            }
            services.pattern = Some(target.admin.clone());
        }
        Ok(services)
    }

    /// Returns the token with which the services are called.
    pub(crate) fn token(&self) -> &Token {
        &self.token
    }

    /// Returns the same services with another token.
    pub(crate) fn acting_with(&self, token: Token) -> Self {
        let clients = self.clients.iter().map(|client| client.acting_with(token.clone()));
        Self { clients: clients.collect(), pattern: self.pattern.clone(), token }
    }

    fn add(&mut self, name: &str, url: &str) -> Result<(), Error> {
        if self.clients.iter().any(|known| known.service == name) {
            return Err(Error::Refused(format!("ORDERFLOW_SERVICES has {name} twice")));
        }
        let client = self.client(name, url)?;
        self.clients.push(client);
        Ok(())
    }

    fn client(&self, name: &str, url: &str) -> Result<Client, Error> {
        let url = url.parse().ok().filter(|url: &Url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or_else(|| {
            Error::Refused(format!(
                "the admin port of {name} is not a URL such as http://127.0.0.1:9182"
            ))
        })?;
        Ok(Client::new(name, url, self.token.clone()))
    }

    /// Returns all services. Services with the same URL count as one: a pattern without a
    /// placeholder means a single service.
    pub(crate) fn all(&self) -> Vec<Client> {
        let mut all: Vec<Client> = Vec::new();
        for client in &self.clients {
            if all.iter().all(|known| known.url != client.url) {
                all.push(client.clone());
            }
        }
        all
    }

    /// Returns the service of a group. Group names begin with the service's name: `analytics`,
    /// `analytics.2`.
    pub(crate) fn of_group(&self, group: &str) -> Result<Client, Error> {
        let name = group.split('.').next().unwrap_or_default();
        if let Some(client) = self.clients.iter().find(|client| client.service == name) {
            return Ok(client.clone());
        }
        if let Some(client) = self.by_pattern(name)? {
            return Ok(client);
        }
        let all: Vec<_> = self.clients.iter().map(|client| &*client.service).collect();
        Err(Error::Refused(format!(
            "no service is called {name}, after which the group {group} would be named; there are {}. \
             ORDERFLOW_SERVICES names others",
            all.join(", ")
        )))
    }

    /// Returns a service that is none of the known ones, if the pattern needs only its name.
    ///
    /// The name becomes a part of the address to which the token is sent, and may come from a link:
    /// it is at most one label of a host name (RFC 1123) that begins with a letter, since a number
    /// is an IPv4 address.
    fn by_pattern(&self, name: &str) -> Result<Option<Client>, Error> {
        let is_label = name.len() <= 63
            && name.starts_with(|it: char| it.is_ascii_alphabetic())
            && name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-');
        match &self.pattern {
            Some(pattern) if is_label && !pattern.contains("{port}") => {
                self.client(name, &filled(pattern, name, "")).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Returns the service with that name, or all if no name is given.
    pub(crate) fn named(&self, name: Option<&str>) -> Result<Vec<Client>, Error> {
        let Some(name) = name else { return Ok(self.all()) };
        if let Some(client) = self.clients.iter().find(|client| client.service == name) {
            return Ok(vec![client.clone()]);
        }
        if let Some(client) = self.by_pattern(name)? {
            return Ok(vec![client]);
        }
        let all: Vec<_> = self.clients.iter().map(|client| &*client.service).collect();
        Err(Error::Refused(format!(
            "no service is called {name}; there are {}. ORDERFLOW_SERVICES names others",
            all.join(", ")
        )))
    }

    /// Returns the service of a group, or all if none is given.
    pub(crate) fn chosen(&self, group: Option<&str>) -> Result<Vec<Client>, Error> {
        group.map_or_else(|| Ok(self.all()), |group| Ok(vec![self.of_group(group)?]))
    }
}

impl Services {
    /// Asks the service of a group, or without a group all services until one of them has the
    /// answer.
    pub(crate) async fn find<T>(
        &self,
        group: Option<&str>,
        ask: impl AsyncFn(&Client) -> Result<T, Error>,
    ) -> Result<(Client, T), Error> {
        first_answer(self.chosen(group)?, ask).await
    }
}

/// Asks services until one of them has the answer.
///
/// Fails with 404 if all of them answered so, else with the error of another service, which may
/// have the answer.
pub(crate) async fn first_answer<T>(
    clients: Vec<Client>,
    ask: impl AsyncFn(&Client) -> Result<T, Error>,
) -> Result<(Client, T), Error> {
    let mut failed: Option<Error> = None;
    for client in clients {
        match ask(&client).await {
            Ok(found) => return Ok((client, found)),
            Err(error) if failed.as_ref().is_none_or(Error::is_not_found) => failed = Some(error),
            Err(_) => {}
        }
    }
    Err(failed.unwrap_or_else(|| Error::Refused("there is no service to ask".into())))
}

fn filled(pattern: &str, name: &str, port: &str) -> String {
    pattern.replace("{service}", name).replace("{port}", port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(services: &str, admin: &str) -> Result<Services, Error> {
        let target =
            Target { services: services.into(), admin: admin.into(), token: String::new() };
        Services::new(&target)
    }

    fn url_of(services: &Services, group: &str) -> String {
        services.of_group(group).unwrap().url.to_string()
    }

    #[test]
    fn the_admin_port_is_that_of_the_groups_service() {
        assert_eq!(url_of(&services("", LOCAL).unwrap(), "billing"), "http://127.0.0.1:9182/");
        let by_name = services("", "http://{service}:{port}/").unwrap();
        assert_eq!(url_of(&by_name, "analytics.2"), "http://analytics:9184/");
        assert!(by_name.of_group("else").unwrap_err().to_string().contains("ORDERFLOW_SERVICES"));
        let one = services("", "http://there:1").unwrap();
        assert_eq!(url_of(&one, "else"), "http://there:1/");
        assert_eq!(one.all().len(), 1);
    }

    #[test]
    fn a_name_from_outside_is_no_other_part_of_the_address() {
        let by_name = services("", "http://{service}:9180").unwrap();
        assert_eq!(url_of(&by_name, "depot"), "http://depot:9180/");
        let long = "x".repeat(64);
        let no_host = ["evil.example", "evil.example/", "evil:1/", "a@evil", "", &long];
        for name in no_host.into_iter().chain(["16843009", "0x01010101"]) {
            assert!(by_name.named(Some(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn a_list_of_services_replaces_the_local_ones() {
        let named = services(" parcel=http://p:1/base, depot=https://d:2,", LOCAL).unwrap();
        assert_eq!(url_of(&named, "parcel.3"), "http://p:1/base");
        assert_eq!(named.all().len(), 2);
        assert!(named.of_group("billing").is_err());
    }

    #[test]
    fn a_list_that_can_not_be_used_is_refused() {
        for (list, expected) in
            [("parcel", "name=http"), ("a=b", "not a URL"), ("a=http://x,a=http://y", "twice")]
        {
            let error = services(list, LOCAL).err().unwrap().to_string();
            assert!(error.contains(expected), "{list}: {error}");
        }
    }
}
