//! Runs schemathesis against the services: it sends what their OpenAPI documents describe, and what
//! they forbid (`make contracts`).

use std::path::{Path, PathBuf, absolute};
use std::process::ExitCode;

use clap::Parser;
use playground::{Instance, Launch, System, SystemOptions, programs_folder};
use sandbox::{Silent, Tools};
use tokio::process::Command;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// API key of a tenant, and credential of a service that may send every event.
const KEY: &str = "contracts";

const SERVICES: [&str; 4] = ["order", "billing", "notification", "analytics"];

const CONFIGURATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schemathesis/schemathesis.toml");

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,missing_required_header,unsupported_method,\
    ignored_auth";

#[derive(Parser)]
#[command(about = "Checks the running services against their OpenAPI documents")]
struct Arguments {
    /// The program `schemathesis`
    #[arg(long)]
    schemathesis: PathBuf,
    /// The folder of the OpenAPI documents
    #[arg(long, default_value = "schemas/http")]
    documents: PathBuf,
    /// Check only these services
    #[arg(long, value_delimiter = ',', default_values = SERVICES)]
    only: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match check(&Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the services could not be checked: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Starts the services on separate servers. Returns `true` if all of them keep to their documents.
async fn check(arguments: &Arguments) -> Result<bool, Error> {
    let folder = tempfile::tempdir()?;
    let options = SystemOptions {
        databases: SERVICES.map(Into::into).into(),
        settings: settings(folder.path()),
        ..SystemOptions::new(programs_folder()?)
    };
    let system = System::start(options, &Tools::find()?, &Silent).await?;
    let mut all = true;
    for name in &arguments.only {
        let service = system.launcher.start(Launch::new(name)).await?;
        all &= keeps_to_document(arguments, name, &service, folder.path()).await?;
    }
    system.stop().await;
    Ok(all)
}

fn settings(mail: &Path) -> Vec<(String, String)> {
    let events = events::SCHEMAS.iter().map(|it| it.event_type).collect::<Vec<_>>().join("+");
    let settings = [
        ("TENANTS", format!("{KEY}=acme")),
        ("EVENT_SENDERS", format!("{KEY}=/contracts:{events}+acknowledge+track")),
        ("OPERATOR_TOKEN", "operator".to_owned()),
        ("MAIL_DIR", mail.display().to_string()),
        ("RUST_LOG", "warn".to_owned()),
    ];
    settings.map(|(name, value)| (name.to_owned(), value)).into()
}

async fn keeps_to_document(
    arguments: &Arguments,
    name: &str,
    service: &Instance,
    folder: &Path,
) -> Result<bool, Error> {
    let document = absolute(&arguments.documents)?.join(format!("{name}.json"));
    // schemathesis writes files to its working folder.
    let mut schemathesis = Command::new(absolute(&arguments.schemathesis)?);
    schemathesis.current_dir(folder);
    schemathesis.args(["--config-file", CONFIGURATION, "run"]).arg(document);
    schemathesis.args(["--url", &format!("http://127.0.0.1:{}", service.http)]);
    schemathesis.args(["--header", &format!("Authorization: Bearer {KEY}")]);
    schemathesis.args(["--phases", "examples,coverage,stateful", "--checks", CHECKS]);
    schemathesis.args(["--max-examples", "30", "--generation-deterministic"]);
    Ok(schemathesis.status().await?.success())
}
