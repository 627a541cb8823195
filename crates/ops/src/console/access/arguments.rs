use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tokio_rustls::TlsAcceptor;

use super::cookie::Secure;
use super::tls::acceptor;
use crate::error::Error;

/// Who may use the console, and how.
#[derive(Args)]
pub(crate) struct AccessArguments {
    /// The certificate chain, PEM
    #[arg(long = "tls-cert", env = "CONSOLE_TLS_CERT", value_name = "FILE", requires = "key")]
    pub(crate) certificates: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long = "tls-key", id = "key", env = "CONSOLE_TLS_KEY", value_name = "FILE")]
    #[arg(requires = "certificates")]
    pub(crate) key: Option<PathBuf>,
    /// `proxy` serves without TLS behind a proxy that has it, and asks everybody to sign in; `on` does on an address that is
    /// published on loopback only
    #[arg(long = "plain-http", env = "CONSOLE_PLAIN_HTTP", default_value = "off")]
    pub(crate) plain_http: PlainHttp,
    /// The names that the console is reached by, `console.example,..` [default: loopback and the address]
    #[arg(long, env = "CONSOLE_HOSTS", default_value = "", hide_default_value = true)]
    pub(crate) hosts: String,
    /// What sessions are encrypted with, so that they outlive a restart [default: derived from `OPERATOR_TOKEN`]
    #[arg(long = "secret", env = "CONSOLE_SECRET", default_value = "", hide_env_values = true)]
    #[arg(hide_default_value = true)]
    pub(crate) secret: String,
}

/// Whether addresses other than loopback are served without TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum PlainHttp {
    On,
    Off,
    /// To a proxy, which says in `X-Forwarded-Proto` whether the browser speaks TLS to it.
    Proxy,
}

impl AccessArguments {
    /// Fails if tokens and payloads would go over a network in clear text.
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

    /// Returns what the console is served with over TLS; `None` without. Fails if the files can't be used.
    pub(crate) fn tls(&self) -> Result<Option<TlsAcceptor>, Error> {
        let (Some(certificates), Some(key)) = (&self.certificates, &self.key) else {
            return Ok(None);
        };
        acceptor(certificates, key).map(Some)
    }

    /// Returns `true` if whoever reaches the address may be on another machine.
    pub(super) fn is_open(&self, address: SocketAddr) -> bool {
        !address.ip().is_loopback() || self.plain_http == PlainHttp::Proxy
    }

    /// Returns when browsers must send cookies over TLS only.
    pub(super) fn secure(&self) -> Secure {
        match (&self.certificates, self.plain_http) {
            (Some(_), _) => Secure::Always,
            (None, PlainHttp::Proxy) => Secure::AsProxied,
            (None, PlainHttp::On | PlainHttp::Off) => Secure::Never,
        }
    }
}
