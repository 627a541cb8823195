//! Sends e-mails to a mail server, each over a connection of its own.
//!
//! The transport of `lettre` is not used: it waits for the answer to `QUIT` before it tells that an
//! e-mail was accepted or refused, and does not tell what a server refused.

use std::time::Duration;

use chassis::ConfigError;
use lettre::Message;
use lettre::address::Envelope;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Tls, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use lettre::transport::smtp::{Error, SMTP_PORT, SUBMISSION_PORT, SUBMISSIONS_PORT};
use percent_encoding::percent_decode_str;
use tokio::time::timeout;
use url::Url;

use super::mailer::SendError;

/// Time limit for connecting.
const CONNECT: Duration = Duration::from_secs(5);
/// Time limit for sending an e-mail. A server that scans the content answers after it has all of it
/// (RFC 5321, 4.5.3.2.6), and one that is given up then delivers the e-mail although it is sent
/// again. A server that hangs keeps a tenant's other e-mails waiting for as long.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(30);
/// How long to wait for the answer to `QUIT`. A server limits the connections of a client.
const GOODBYE: Duration = Duration::from_secs(1);

/// A mail server's address, and how to log in.
pub(super) struct MailServer {
    host: String,
    port: u16,
    name: ClientId,
    tls: Tls,
    credentials: Option<Credentials>,
}

impl MailServer {
    /// Parses a URL: `smtp://host:port`, with `?tls=opportunistic` or `?tls=required` for
    /// `STARTTLS`, or `smtps://user:password@host`. A path is the name for `EHLO`.
    ///
    /// # Errors
    /// Fails if the URL has another form. The error does not quote it, because it may hold a
    /// password.
    pub(super) fn at(url: &str) -> Result<Self, ConfigError> {
        let form = "it is not of the form smtp://host:port or smtps://user:password@host";
        Self::parse(url).ok_or_else(|| ConfigError::Invalid("SMTP_URL", form.to_owned()))
    }

    fn parse(url: &str) -> Option<Self> {
        let url = Url::parse(url).ok()?;
        let host = url.host_str()?.to_owned();
        let parameters = || TlsParameters::new(host.clone()).ok();
        let security = url.query_pairs().find(|(name, _)| name == "tls").map(|(_, value)| value);
        let (tls, port) = match (url.scheme(), security.as_deref()) {
            ("smtp", None) => (Tls::None, SMTP_PORT),
            ("smtp", Some("opportunistic")) => (Tls::Opportunistic(parameters()?), SUBMISSION_PORT),
            ("smtp", Some("required")) => (Tls::Required(parameters()?), SUBMISSION_PORT),
            ("smtps", _) => (Tls::Wrapper(parameters()?), SUBMISSIONS_PORT),
            _ => return None,
        };
        let decoded = |text| Some(percent_decode_str(text).decode_utf8().ok()?.into_owned());
        let credentials = match url.password() {
            Some(password) => Some(Credentials::new(decoded(url.username())?, decoded(password)?)),
            None => None,
        };
        let name = match url.path().trim_matches('/') {
            "" => ClientId::default(),
            name => ClientId::Domain(name.to_owned()),
        };
        Some(Self { port: url.port().unwrap_or(port), host, name, tls, credentials })
    }

    /// Sends an e-mail. The server's answer to its content decides.
    pub(super) async fn send(&self, message: &Message) -> Result<(), SendError> {
        let sending = async {
            let mut connection = self.connect().await.map_err(SendError::Server)?;
            let sent = transmit(&mut connection, message.envelope(), &message.formatted()).await;
            Ok((connection, sent))
        };
        let sent = timeout(TIME_LIMIT, sending).await;
        let (mut connection, sent) = sent.map_err(|_| SendError::TimedOut)??;
        // Whether the server answers does not change what it said of the e-mail.
        let _ = timeout(GOODBYE, connection.abort()).await;
        sent
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Error> {
        let wrapper = match &self.tls {
            Tls::Wrapper(parameters) => Some(parameters.clone()),
            _ => None,
        };
        let address = (self.host.as_str(), self.port);
        let connecting = AsyncSmtpConnection::connect_tokio1;
        let mut connection = connecting(address, Some(CONNECT), &self.name, wrapper, None).await?;
        match &self.tls {
            Tls::Required(parameters) => {
                connection.starttls(parameters.clone(), &self.name).await?;
            }
            Tls::Opportunistic(parameters) if connection.can_starttls() => {
                connection.starttls(parameters.clone(), &self.name).await?;
            }
            _ => {}
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(DEFAULT_MECHANISMS, credentials).await?;
        }
        Ok(connection)
    }
}

/// Transmits an e-mail (RFC 5321, 3.3). A refusal of the sender concerns every e-mail.
async fn transmit(
    connection: &mut AsyncSmtpConnection,
    envelope: &Envelope,
    message: &[u8],
) -> Result<(), SendError> {
    let mail = Mail::new(envelope.from().cloned(), parameters(connection, envelope, message)?);
    connection.command(mail).await.map_err(SendError::Server)?;
    for recipient in envelope.to() {
        let recipient = Rcpt::new(recipient.clone(), Vec::new());
        connection.command(recipient).await.map_err(SendError::Email)?;
    }
    connection.command(Data).await.map_err(SendError::Email)?;
    connection.message(message).await.map_err(SendError::Email)?;
    Ok(())
}

/// Returns what the server has to be told of addresses and content that are not ASCII.
fn parameters(
    connection: &AsyncSmtpConnection,
    envelope: &Envelope,
    message: &[u8],
) -> Result<Vec<MailParameter>, SendError> {
    let mut addresses = envelope.to().iter().chain(envelope.from());
    let is_foreign = addresses.any(|address| !AsRef::<str>::as_ref(address).is_ascii());
    let needed = [
        (is_foreign, Extension::SmtpUtfEight, MailParameter::SmtpUtfEight, "SMTPUTF8"),
        (
            !message.is_ascii(),
            Extension::EightBitMime,
            MailParameter::Body(MailBodyParameter::EightBitMime),
            "8BITMIME",
        ),
    ];
    let needed = needed.into_iter().filter(|(is_needed, ..)| *is_needed);
    let parameters = needed.map(|(_, extension, parameter, name)| {
        let is_supported = connection.server_info().supports_feature(extension);
        if is_supported { Ok(parameter) } else { Err(SendError::Unsupported(name)) }
    });
    parameters.collect()
}
