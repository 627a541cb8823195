//! `show`.

use std::io::{self, Write};

use clap::Args;
use uuid::Uuid;

use super::Context;
use super::list::write_job;
use crate::client::JobDetails;
use crate::error::{Error, Failure, StepContext};
use crate::json;
use crate::moment::when;
use crate::plain::plain;
use crate::services::first_answer;

#[derive(Args)]
pub(super) struct Arguments {
    /// Id of the job, from `list`
    id: Uuid,
}

pub(super) async fn run(context: &mut Context, arguments: &Arguments) -> Result<u8, Failure> {
    show(context, arguments.id).await.during(format!("show {}", arguments.id))?;
    Ok(0)
}

async fn show(context: &mut Context, id: Uuid) -> Result<(), Error> {
    let (_, details) = first_answer(context.clients()?, async |it| it.job(id).await).await?;
    let out = &mut context.out;
    if context.json {
        return json::print(out, &details.json);
    }
    write(out, &details)?;
    Ok(())
}

fn write(out: &mut impl Write, details: &JobDetails) -> io::Result<()> {
    let JobDetails { job, payload, errors } = details;
    write_job(out, job)?;
    for error in errors {
        writeln!(out, "attempt      {} at {}", error.attempt, when(&error.at))?;
        for line in error.error.lines() {
            writeln!(out, "             {}", plain(line))?;
        }
    }
    writeln!(out, "payload      {}", plain(&payload.to_string()))?;
    if job.state == "failed" {
        writeln!(out, "\nTo run it again: orderflow jobs retry {} --why ..", job.id)?;
    }
    Ok(())
}
