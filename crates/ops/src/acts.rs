//! `orderflow acts`: operations of operators, in all services.

use std::io::{self, Write};

use clap::Args;
use time::OffsetDateTime;

use crate::amount::Amount;
use crate::client::{Act, Answer, Merged, Order};
use crate::error::{Error, Failure, StepContext, name_unavailable};
use crate::json::Document;
use crate::moment::{parse, since, when};
use crate::output::Output;
use crate::plain::plain;
use crate::services::{Services, Target};

/// The arguments of `orderflow acts`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  orderflow acts --since 1h\n  orderflow acts --by ada --act dead-letters --json"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Only acts in this service
    #[arg(long)]
    service: Option<String>,
    /// Only acts of this operator
    #[arg(long)]
    by: Option<String>,
    /// Only acts whose kind has this prefix, such as jobs or dead-letters.discard
    #[arg(long, value_name = "PREFIX")]
    act: Option<String>,
    /// Only acts since this time: a duration such as 1h, or a time such as 2026-11-26T01:30:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    #[command(flatten)]
    amount: Amount,
    /// Print JSON, as the admin API has it
    #[arg(long)]
    json: bool,
}

/// Returns the exit status: 1 if a service does not answer.
pub(crate) async fn run(arguments: Arguments) -> Result<u8, Failure> {
    list(&arguments).await.during("list the acts")
}

async fn list(arguments: &Arguments) -> Result<u8, Error> {
    let services = Services::new(&arguments.target)?;
    let mut acts = Chosen::new(&services, arguments)?;
    let (limit, mut out) = (arguments.amount.limit(), Output::stdout());
    let mut document = if arguments.json { Some(Document::begin(&mut out, "acts")?) } else { None };
    let mut shown = 0;
    while shown < limit
        && !out.is_closed()
        && let Some(act) = acts.next().await?
    {
        match &mut document {
            Some(document) => document.item(&mut out, &act.json)?,
            None => write(&mut out, &act)?,
        }
        shown += 1;
    }
    let is_complete = acts.is_at_end().await?;
    let unavailable = &acts.list.unavailable;
    match document {
        Some(document) => {
            document.end(&mut out, None, is_complete && unavailable.is_empty())?;
        }
        None if !is_complete => writeln!(out, "There are more; --all or --limit shows them.")?,
        None if shown == 0 && unavailable.is_empty() => writeln!(out, "There are no such acts.")?,
        None => {}
    }
    Ok(name_unavailable(unavailable))
}

/// The requested acts, newest first. The API filters by operator only; the other conditions are
/// checked here.
struct Chosen<'a> {
    list: Merged<Act>,
    prefix: &'a str,
    since: Option<OffsetDateTime>,
    /// An act that was read but not returned yet.
    ahead: Option<Answer<Act>>,
    has_ended: bool,
}

impl<'a> Chosen<'a> {
    fn new(services: &Services, arguments: &'a Arguments) -> Result<Self, Error> {
        let Arguments { service, by, act, since: from, amount, .. } = arguments;
        let since = from.as_deref().map(|it| since(it, OffsetDateTime::now_utc())).transpose()?;
        let clients = services.named(service.as_deref())?;
        let listings = clients.iter().map(|client| client.acts(by.as_deref())).collect();
        // With a condition of the client, whole pages are read.
        let shown = if act.is_some() { usize::MAX } else { amount.limit().saturating_add(1) };
        let list = Merged::new(listings, shown, Order::Newest);
        let prefix = act.as_deref().unwrap_or_default();
        Ok(Self { list, prefix, since, ahead: None, has_ended: false })
    }

    async fn next(&mut self) -> Result<Option<Answer<Act>>, Error> {
        if let Some(act) = self.ahead.take() {
            return Ok(Some(act));
        }
        while !self.has_ended
            && let Some(act) = self.list.next().await?
        {
            if self.since.is_some_and(|since| parse(&act.at).is_some_and(|at| at < since)) {
                break;
            }
            if act.kind.starts_with(self.prefix) {
                return Ok(Some(act));
            }
        }
        self.has_ended = true;
        Ok(None)
    }

    /// Returns `true` if there are no more acts.
    async fn is_at_end(&mut self) -> Result<bool, Error> {
        self.ahead = self.next().await?;
        Ok(self.ahead.is_none())
    }
}

fn write(out: &mut impl Write, act: &Act) -> io::Result<()> {
    let head = [&act.service, &act.by, &act.kind].map(|it| plain(it));
    writeln!(out, "{}   {}", when(&act.at), head.join("   "))?;
    writeln!(out, "   target       {}", plain(&act.target))?;
    if let Some(why) = &act.why {
        writeln!(out, "   why          {}", plain(why))?;
    }
    let outcome = act.outcome.as_deref().map(plain);
    writeln!(
        out,
        "   outcome      {}\n",
        outcome.as_deref().unwrap_or("none: in progress or interrupted")
    )
}
