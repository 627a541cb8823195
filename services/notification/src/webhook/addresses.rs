//! Restricts webhooks to public Internet addresses, to prevent server-side request forgery into the
//! private network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use url::Url;

/// Blocks that are not on the public Internet (IANA's registries of special-purpose addresses, RFC
/// 6890).
const PRIVATE_V4: [(Ipv4Addr, u32); 15] = [
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Blocks within the public Internet's range that are special, or embed an IPv4 address.
const PRIVATE_V6: [(Ipv6Addr, u32); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Returns whether an address is on the public Internet.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let bits = u32::from(address);
            !PRIVATE_V4.iter().any(|(block, size)| (bits ^ u32::from(*block)) >> (32 - size) == 0)
        }
        IpAddr::V6(address) => {
            let bits = u128::from(address);
            let within =
                |(block, size): &(Ipv6Addr, u32)| (bits ^ u128::from(*block)) >> (128 - size) == 0;
            // Only 2000::/3 is allocated. All other addresses are local, mapped, translated or
            // unassigned.
            bits >> 125 == 1 && !PRIVATE_V6.iter().any(within)
        }
    }
}

/// A list of `host:port` that are exempt from the restriction.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Exceptions(Vec<(String, u16)>);

impl FromStr for Exceptions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let read = |entry: &str| {
            let (host, port) = entry.rsplit_once(':')?;
            Some((host.to_lowercase(), port.parse().ok()?))
        };
        let read = entries.map(|entry| {
            read(entry).ok_or_else(|| format!("{entry} is not of the form host:port"))
        });
        read.collect::<Result<_, _>>().map(Self)
    }
}

/// A URL is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// One message for both cases. Otherwise tenants could find out which internal names exist.
    #[error("{0} can't be resolved, or is not on the public Internet")]
    NotPublic(String),
    /// Only for hosts that the operator has exempted.
    #[error("{0} can't be resolved")]
    Unresolved(String, #[source] std::io::Error),
}

/// Checks the addresses of webhooks, at registration and before each connection.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    exceptions: Arc<Exceptions>,
}

impl Guard {
    pub(crate) fn new(exceptions: Exceptions) -> Self {
        Self { exceptions: Arc::new(exceptions) }
    }

    /// Checks the current addresses of a URL.
    pub(crate) async fn check(&self, url: &Url) -> Result<(), Refused> {
        self.check_literal(url)?;
        let (host, port) = place(url);
        if self.is_exempt(&host, port) || literal(&host).is_some() {
            return Ok(());
        }
        public_addresses(&host).await.map(drop)
    }

    /// Checks a host that is an IP address, which is never resolved.
    pub(crate) fn check_literal(&self, url: &Url) -> Result<(), Refused> {
        let (host, port) = place(url);
        match literal(&host) {
            Some(address) if !is_public(address) && !self.is_exempt(&host, port) => {
                Err(Refused::NotPublic(host))
            }
            _ => Ok(()),
        }
    }

    /// Returns `true` if the URL uses TLS or is exempt. Without TLS customers' data could be read
    /// on the way; exempt hosts are in the operator's own network.
    pub(crate) fn permits_scheme(&self, url: &Url) -> bool {
        match url.scheme() {
            "https" => true,
            "http" => self.exempts(url),
            _ => false,
        }
    }

    /// Returns whether the host and port of a URL are exempt.
    pub(crate) fn exempts(&self, url: &Url) -> bool {
        let (host, port) = place(url);
        self.is_exempt(&host, port)
    }

    fn is_exempt(&self, host: &str, port: u16) -> bool {
        self.exceptions.0.iter().any(|exempt| exempt.0 == host && exempt.1 == port)
    }
}

fn place(url: &Url) -> (String, u16) {
    let host = url.host_str().unwrap_or_default().to_lowercase();
    (host, url.port_or_known_default().unwrap_or_default())
}

fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Resolves a name. Fails unless all its addresses are public, because the connection may use any
/// of them.
pub(crate) async fn public_addresses(host: &str) -> Result<Vec<SocketAddr>, Refused> {
    let addresses = match addresses(host).await {
        Ok(addresses) => addresses,
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(host, error, "webhook host refused");
            Vec::new()
        }
    };
    if addresses.is_empty() || !addresses.iter().all(|address| is_public(address.ip())) {
        return Err(Refused::NotPublic(host.to_owned()));
    }
    Ok(addresses)
}

/// Resolves a name.
pub(crate) async fn addresses(host: &str) -> Result<Vec<SocketAddr>, Refused> {
    let resolved = tokio::net::lookup_host((host, 0)).await;
    Ok(resolved.map_err(|error| Refused::Unresolved(host.to_owned(), error))?.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_is_public() {
        let public = [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
        ];
        let private = [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.19.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:1.1.1.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "100::1",
        ];
        for address in public {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        for address in private {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[tokio::test]
    async fn an_address_is_seen_however_it_is_written() {
        let guard = Guard::new(Exceptions::default());
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://0x7f.1/",
            "http://2130706433/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "https://10.0.0.1:8443/",
            "http://0/",
        ] {
            let url: Url = url.parse().unwrap();
            assert!(guard.check_literal(&url).is_err(), "{url}");
            assert!(guard.check(&url).await.is_err(), "{url}");
        }
        for name in ["http://localhost/", "http://localhost./"] {
            let url: Url = name.parse().unwrap();
            assert!(guard.check(&url).await.is_err(), "{name}");
        }
        assert!(guard.check(&"https://1.1.1.1/".parse().unwrap()).await.is_ok());
    }

    #[tokio::test]
    async fn an_exception_is_a_host_and_a_port() {
        let guard = Guard::new("Localhost:8090, 127.0.0.1:8091".parse().unwrap());
        let check = async |url: &str| guard.check(&url.parse().unwrap()).await.is_ok();
        assert!(check("http://localhost:8090/").await && check("http://127.0.0.1:8091/x").await);
        assert!(!check("http://localhost:8091/").await && !check("http://127.0.0.1:8090/").await);
        assert!("localhost".parse::<Exceptions>().is_err());
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_and_one_that_does_not_exist_are_refused_alike() {
        let answer = async |host: &str| {
            let refused = public_addresses(host).await.unwrap_err();
            assert!(std::error::Error::source(&refused).is_none(), "{refused:?}");
            refused.to_string().replace(host, "host")
        };
        assert_eq!(answer("localhost").await, answer("no-such-host.invalid").await);
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_not_dialled() {
        assert!(
            public_addresses("localhost").await.is_err() && addresses("localhost").await.is_ok()
        );
    }
}
