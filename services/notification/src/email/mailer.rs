//! Sends e-mails to a mail server, or writes them into a folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chassis::ConfigError;
use lettre::address::AddressError;
use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use tokio::time::timeout;

use super::store::Unsent;
use crate::config::Mail;

/// Time limit for connecting to the mail server.
const CONNECT: Duration = Duration::from_secs(5);
/// Time limit for sending an e-mail. A server that scans the content answers after it has all of it
/// (RFC 5321, 4.5.3.2.6), and one that is given up then delivers the e-mail although it is sent
/// again. A server that hangs keeps a tenant's other e-mails waiting for as long.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// An e-mail was not sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("{0:?} is not an e-mail address")]
    Address(String, #[source] AddressError),
    #[error("the e-mail can't be encoded as a message")]
    Message(#[source] lettre::error::Error),
    // The message includes the cause, so it is not a source.
    #[error("the mail server: {0}")]
    Smtp(smtp::Error),
    #[error("the mail server took longer than {TIME_LIMIT:?}")]
    TimedOut,
    #[error("the file can't be written")]
    File(#[source] std::io::Error),
}

impl SendError {
    /// Returns `true` if a retry can't succeed.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::Address(..) | Self::Message(_) => true,
            // Replies about this e-mail (RFC 5321, 4.2.2). Other 5xx replies concern credentials,
            // the protocol or the server as a whole, and may be repaired.
            Self::Smtp(error) => {
                let code = error.status().map(u16::from);
                code.is_some_and(|code| matches!(code, 501 | 550..=559))
            }
            Self::TimedOut | Self::File(_) => false,
        }
    }
}

/// Where e-mails are sent.
pub(crate) struct Mailer {
    from: Mailbox,
    target: Target,
}

enum Target {
    Server(AsyncSmtpTransport<Tokio1Executor>),
    Folder(PathBuf),
}

impl Mailer {
    /// Creates a mailer. It does not connect yet, since the mail server may be unavailable.
    pub(crate) fn new(mail: Mail) -> Result<Self, ConfigError> {
        // An empty variable counts as unset.
        let url = mail.smtp_url.filter(|url| !url.expose().is_empty());
        let folder = mail.mail_dir.filter(|folder| !folder.as_os_str().is_empty());
        let target = match (url, folder) {
            (Some(url), None) => Target::Server(server(url.expose())?),
            (None, Some(folder)) => Target::Folder(existing(folder)?),
            (None, None) => {
                return Err(ConfigError::Missing(
                    "SMTP_URL",
                    "give the mail server as smtp://host:port, or set MAIL_DIR to a folder instead",
                ));
            }
            (Some(_), Some(_)) => {
                let both = "SMTP_URL is set too, and an e-mail goes one way; unset one of the two";
                return Err(ConfigError::Invalid("MAIL_DIR", both.to_owned()));
            }
        };
        Ok(Self { from: mail.mail_from, target })
    }

    /// Sends an e-mail. Each attempt sends the same message.
    pub(crate) async fn send(&self, email: &Unsent) -> Result<(), SendError> {
        let message = self.message(email)?;
        match &self.target {
            Target::Server(server) => {
                let sent = timeout(TIME_LIMIT, server.send(message)).await;
                sent.map_err(|_| SendError::TimedOut)?.map_err(SendError::Smtp)?;
                Ok(())
            }
            Target::Folder(folder) => {
                let name = format!("{}-{}.eml", email.order_id, email.kind);
                write(folder, &name, &message.formatted()).await.map_err(SendError::File)
            }
        }
    }

    fn message(&self, email: &Unsent) -> Result<Message, SendError> {
        Message::builder()
            .message_id(Some(email.message_id.clone()))
            .date(email.created_at.into())
            .from(self.from.clone())
            .to(Mailbox::new(None, address(&email.recipient)?))
            .subject(&email.subject)
            .header(ContentType::TEXT_PLAIN)
            .body(email.body.clone())
            .map_err(SendError::Message)
    }
}

/// Parses one bare address. Control characters are rejected: the grammar allows them in quotes, but
/// headers do not.
pub(crate) fn address(text: &str) -> Result<Address, SendError> {
    let plain =
        if text.contains(char::is_control) { Err(AddressError::InvalidInput) } else { Ok(text) };
    plain.and_then(str::parse).map_err(|error| SendError::Address(text.to_owned(), error))
}

/// Parses the URL of a mail server. The error does not quote it, because it may hold a password.
fn server(url: &str) -> Result<AsyncSmtpTransport<Tokio1Executor>, ConfigError> {
    let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(url).map_err(|_| {
        let form = "it is not of the form smtp://host:port or smtps://user:password@host";
        ConfigError::Invalid("SMTP_URL", form.to_owned())
    })?;
    Ok(builder.timeout(Some(CONNECT)).build())
}

fn existing(folder: PathBuf) -> Result<PathBuf, ConfigError> {
    match std::fs::create_dir_all(&folder) {
        Ok(()) => Ok(folder),
        Err(error) => {
            let why = format!("the folder {} can't be made: {error}", folder.display());
            Err(ConfigError::Invalid("MAIL_DIR", why))
        }
    }
}

/// Writes a file atomically.
async fn write(folder: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let unfinished = folder.join(format!(".{name}"));
    tokio::fs::write(&unfinished, bytes).await?;
    tokio::fs::rename(&unfinished, folder.join(name)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailer(smtp_url: &str, mail_dir: &str) -> Result<Mailer, String> {
        let mail = Mail {
            smtp_url: smtp_url.parse().ok(),
            mail_dir: Some(mail_dir.into()),
            mail_from: "shop@example.com".parse().unwrap(),
        };
        Mailer::new(mail).map_err(|error| error.to_string())
    }

    #[test]
    fn exactly_one_way_out_is_set() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("made/here");
        let folder = folder.to_str().unwrap();
        assert!(mailer("smtp://localhost:1025", "").is_ok());
        assert!(mailer("smtps://user:secret@mail.example.com", "").is_ok());
        assert!(mailer("", folder).is_ok() && Path::new(folder).is_dir());
        for (url, folder, variables) in [
            ("", "", ["SMTP_URL", "MAIL_DIR"]),
            ("smtp://localhost", folder, ["SMTP_URL", "MAIL_DIR"]),
            ("http://u:hunter2@localhost", "", ["SMTP_URL", "smtp://host:port"]),
            ("smtp://u:hunter2@localhost?tls=perhaps", "", ["SMTP_URL", "smtp://host:port"]),
            ("localhost:1025", "", ["SMTP_URL", "smtp://host:port"]),
            ("", "/dev/null/mail", ["MAIL_DIR", "/dev/null/mail"]),
        ] {
            let error = mailer(url, folder).err().unwrap();
            assert!(variables.iter().all(|name| error.contains(name)), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn an_address_is_one_bare_address() {
        for good in ["ada@example.com", "a.b+c@x.example", "\"a b\"@example.com", "ä@exämple.com"]
        {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "nobody",
            "ada@example.com\nBcc: eve@example.com",
            "ada@example.com\r\n\r\nbody",
            "\"a\nb\"@example.com",
            "\"a\\\nb\"@example.com",
            "ada@exa\nmple.com",
            "ada@example.com, eve@example.com",
            "Ada <ada@example.com>",
            "ada@example.com> SIZE=1",
        ] {
            let error = address(bad).expect_err(bad);
            assert!(error.is_permanent() && error.to_string().contains("not an e-mail address"));
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }
}
