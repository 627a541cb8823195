//! Sends e-mails to a mail server, or writes them into a folder.

use std::path::{Path, PathBuf};

use chassis::ConfigError;
use lettre::address::AddressError;
use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp;
use lettre::{Address, Message};

use super::mail_server::{MailServer, TIME_LIMIT};
use super::store::Unsent;
use crate::config::Mail;

/// An e-mail was not sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("{0:?} is not an e-mail address")]
    Address(String, #[source] AddressError),
    #[error("the e-mail can't be encoded as a message")]
    Message(#[source] lettre::error::Error),
    // The messages include the causes, so these are not sources.
    /// The server accepts no e-mail, whichever it is.
    #[error("the mail server: {0}")]
    Server(smtp::Error),
    /// The server does not accept this e-mail.
    #[error("the mail server: {0}")]
    Email(smtp::Error),
    #[error("the mail server does not support {0}, which this e-mail needs")]
    Unsupported(&'static str),
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
            Self::Email(error) => {
                let code = error.status().map(u16::from);
                code.is_some_and(|code| matches!(code, 501 | 550..=559))
            }
            Self::Server(_) | Self::Unsupported(_) | Self::TimedOut | Self::File(_) => false,
        }
    }
}

/// Where e-mails are sent.
pub(crate) struct Mailer {
    from: Mailbox,
    target: Target,
}

enum Target {
    Server(MailServer),
    Folder(PathBuf),
}

impl Mailer {
    /// Creates a mailer. It does not connect yet, since the mail server may be unavailable.
    pub(crate) fn new(mail: Mail) -> Result<Self, ConfigError> {
        // An empty variable counts as unset.
        let url = mail.smtp_url.filter(|url| !url.expose().is_empty());
        let folder = mail.mail_dir.filter(|folder| !folder.as_os_str().is_empty());
        let target = match (url, folder) {
            (Some(url), None) => Target::Server(MailServer::at(url.expose())?),
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
            Target::Server(server) => server.send(&message).await,
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
