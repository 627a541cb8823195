//! The receivers of e-mails and webhooks fail, or notification dies during a send.

use std::time::Duration;

use tokio::time::sleep;

use super::Evidence;
use crate::chaos::Error;
use crate::chaos::mail;
use crate::chaos::scene::{Scene, soon};

const BEFORE: usize = 50;
const AFTERWARDS: usize = 50;
/// Shorter than notification waits for a webhook (10 s).
const TARGET_HANGS: Duration = Duration::from_secs(7);
/// With the time before, longer than notification waits for a mail server (30 s).
const MAIL_STILL_HANGS: Duration = Duration::from_secs(26);

pub(crate) async fn receivers_fail(scene: &mut Scene) -> Evidence {
    scene.orders(BEFORE).await?;
    scene.receivers.refuse();
    // Earlier first attempts failed, too.
    let earlier = scene.receivers.webhook_requests();
    scene.orders(BEFORE).await?;
    let refused = async || {
        scene.receivers.mail.refused() > 0 && scene.receivers.refused_webhooks(earlier) > 0
    };
    let refused = soon(refused).await;
    scene.receivers.hang();
    sleep(TARGET_HANGS).await;
    let unanswered = scene.receivers.unanswered_webhooks();
    scene.receivers.heal_target();
    sleep(MAIL_STILL_HANGS).await;
    let abandoned = scene.receivers.mail.abandoned();
    scene.receivers.heal();
    scene.healed();
    if !refused || abandoned == 0 || unanswered == 0 {
        return Err("a receiver got nothing to refuse, or nothing to leave unanswered".into());
    }
    scene.orders(AFTERWARDS).await?;
    let refused = scene.receivers.mail.refused();
    Ok(format!("{refused} e-mails were refused, {abandoned} were not answered in time"))
}

/// Kills notification during sends of which none is accepted, so the next process has to send each
/// of them.
pub(crate) async fn killed_sending(scene: &mut Scene) -> Evidence {
    scene.orders(BEFORE).await?;
    scene.receivers.hang();
    let both =
        async || scene.receivers.mail.waiting() > 0 && scene.receivers.unanswered_webhooks() > 0;
    let under_way = soon(both).await;
    let (mails, webhooks) = (scene.receivers.mail.waiting(), scene.receivers.unanswered_webhooks());
    kill_and_start_again(scene).await?;
    if !under_way {
        return Err(format!("{mails} e-mails and {webhooks} webhooks were under way").into());
    }
    Ok(format!("notification died with {mails} e-mails and {webhooks} webhooks under way"))
}

/// Kills notification after its sends are accepted and before they are recorded, so they are
/// repeated with the same `Message-ID`.
pub(crate) async fn killed_after_sending(scene: &mut Scene) -> Evidence {
    scene.orders(BEFORE).await?;
    scene.receivers.mail.behave(mail::Behaviour::AcceptAndHang);
    let accepted = soon(async || scene.receivers.mail.waiting() > 0).await;
    let mails = scene.receivers.mail.waiting();
    kill_and_start_again(scene).await?;
    if !accepted {
        return Err("no e-mail was under way".into());
    }
    Ok(format!("notification died with {mails} e-mails accepted and not recorded as sent"))
}

async fn kill_and_start_again(scene: &mut Scene) -> Result<(), Error> {
    scene.notification.process.kill_9().await;
    // Otherwise the mail server could accept a message from a client whose death it has not noticed
    // yet.
    if !soon(async || scene.receivers.mail.waiting() == 0).await {
        return Err("the mail server did not notice that notification died".into());
    }
    scene.receivers.heal();
    scene.notification.start_again().await?;
    scene.healed();
    scene.orders(AFTERWARDS).await
}
