use std::net::SocketAddr;

/// The host names that this server serves. A page that was rebound to this address by DNS has
/// another host name.
pub(super) struct Hosts(Vec<String>);

impl Hosts {
    /// Parses the list. Without one, the hosts are loopback and the address.
    pub(super) fn read(list: &str, address: SocketAddr) -> Self {
        let listed = list.split(',').map(str::trim).filter(|name| !name.is_empty());
        let hosts: Vec<_> = listed.map(str::to_ascii_lowercase).collect();
        if !hosts.is_empty() {
            return Self(hosts);
        }
        let mut hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "[::1]".to_owned()];
        let own = SocketAddr::new(address.ip(), 0).to_string();
        hosts.extend(own.strip_suffix(":0").map(ToOwned::to_owned));
        Self(hosts)
    }

    /// Fails with the host if it is not in the list. A port is compared if the entry has one.
    pub(super) fn check(&self, host: Option<&str>) -> Result<(), String> {
        let host = host.unwrap_or_default().to_ascii_lowercase();
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|it| it.is_ascii_digit()) => name,
            _ => &host,
        };
        let is_known = self.0.iter().any(|known| known == name || *known == host);
        if is_known { Ok(()) } else { Err(host) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(list: &str, address: &str, host: &str) -> bool {
        Hosts::read(list, address.parse().unwrap()).check(Some(host)).is_ok()
    }

    #[test]
    fn a_server_answers_for_loopback_and_its_address_or_for_the_list() {
        let own = "10.0.0.1:8080";
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:9", "[::1]:8080", "10.0.0.1:8080"] {
            assert!(answers("", own, host), "{host}");
        }
        for host in ["evil", "evil:8080", "localhost.evil", "", "10.0.0.2", "localhost:evil"] {
            assert!(!answers("", own, host), "{host}");
        }
        let list = "console.example, ops.example:8443";
        assert!(answers(list, own, "Console.Example:80") && answers(list, own, "ops.example:8443"));
        assert!(!answers(list, own, "localhost") && !answers(list, own, "ops.example:80"));
        assert!(Hosts::read("", own.parse().unwrap()).check(None).is_err());
    }
}
