use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tokio_rustls::TlsAcceptor;

use super::cookie::Secure;
use super::tls::acceptor;
use crate::error::Error;

/// Settings of access to the console.
#[derive(Args)]
pub(crate) struct AccessArguments {
    /// File with the certificate chain, PEM
    #[arg(long = "tls-cert", env = "CONSOLE_TLS_CERT", value_name = "FILE", requires = "key")]
    pub(crate) certificates: Option<PathBuf>,
    /// File with its private key, PEM
    #[arg(long = "tls-key", id = "key", env = "CONSOLE_TLS_KEY", value_name = "FILE")]
    #[arg(requires = "certificates")]
    pub(crate) key: Option<PathBuf>,
    /// `proxy` serves without TLS behind a proxy that terminates it, and requires a sign-in; `on`
    /// does so on an address that is published on loopback only
    #[arg(long = "plain-http", env = "CONSOLE_PLAIN_HTTP", default_value = "off")]
    pub(crate) plain_http: PlainHttp,
    /// The host names of the console, `console.example,..` [default: loopback and the address]
    #[arg(long, env = "CONSOLE_HOSTS", default_value = "", hide_default_value = true)]
    pub(crate) hosts: String,
    /// The secret with which sessions are encrypted, so that they outlive a restart [default:
    /// derived from `OPERATOR_TOKEN`]
    #[arg(long = "secret", env = "CONSOLE_SECRET", default_value = "", hide_env_values = true)]
    #[arg(hide_default_value = true)]
    pub(crate) secret: String,
}

/// Whether addresses other than loopback are served without TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum PlainHttp {
    On,
    Off,
    /// Behind a proxy, which reports in `X-Forwarded-Proto` whether the browser uses TLS.
    Proxy,
}

impl AccessArguments {
    /// Fails if tokens and payloads would be sent over a network in clear text.
    pub(super) fn check(&self, address: SocketAddr) -> Result<(), Error> {
        let is_safe = address.ip().is_loopback()
            || self.certificates.is_some()
            || self.plain_http != PlainHttp::Off;
        if is_safe {
            return Ok(());
        }
        Err(Error::Refused(format!(
            "CONSOLE_ADDR {address} is not loopback: set CONSOLE_TLS_CERT and CONSOLE_TLS_KEY, or CONSOLE_PLAIN_HTTP=proxy \
             behind a proxy that has TLS, or CONSOLE_PLAIN_HTTP=on if it is published on loopback only"
        )))
    }

    /// Returns the TLS settings. Returns `None` without TLS. Fails if the files can't be used.
    pub(crate) fn tls(&self) -> Result<Option<TlsAcceptor>, Error> {
        let (Some(certificates), Some(key)) = (&self.certificates, &self.key) else {
            return Ok(None);
        };
        acceptor(certificates, key).map(Some)
    }

    /// Returns `true` if clients on other machines may reach the address.
    pub(super) fn is_open(&self, address: SocketAddr) -> bool {
        !address.ip().is_loopback() || self.plain_http == PlainHttp::Proxy
    }

    /// Returns when cookies are sent over TLS only.
    pub(super) fn secure(&self) -> Secure {
        match (&self.certificates, self.plain_http) {
            (Some(_), _) => Secure::Always,
            (None, PlainHttp::Proxy) => Secure::AsProxied,
            (None, PlainHttp::On | PlainHttp::Off) => Secure::Never,
        }
    }
}
