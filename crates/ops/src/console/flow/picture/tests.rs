use askama::Template;

use super::items::items;
use super::lanes::{Layout, lay_out};
use super::*;
use crate::console::flow::stories::{failed, hostile, many, replayed, restarted, waiting, well};
use crate::flow::testing::at;

/// The time at which the stories are drawn.
const NOW_MS: i64 = 150_000;

fn picture(flow: &Flow) -> Picture {
    Picture::new(flow, at(NOW_MS), true, "/flow?q=c-1&step=", None)
}

fn layout(flow: &Flow, collapses: bool) -> (Vec<Item>, Axis, Layout) {
    let items = items(flow, collapses);
    let axis = axis(&items, items.iter().any(Item::is_open).then_some(at(NOW_MS)));
    let layout = lay_out(&items, &axis, at(NOW_MS));
    (items, axis, layout)
}

/// Compares a picture with the committed one. `UPDATE_GOLDEN=1` rewrites it.
#[track_caller]
fn is_golden(name: &str, flow: &Flow) {
    let path = format!("{}/src/console/flow/picture/golden/{name}.svg", env!("CARGO_MANIFEST_DIR"));
    let svg = picture(flow).render().unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &svg).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert!(svg == golden, "{name}.svg differs; look at it, then UPDATE_GOLDEN=1");
}

#[test]
fn an_order_that_went_well_is_drawn_as_before() {
    is_golden("well", &well());
}

#[test]
fn an_order_that_failed_and_was_replayed_is_drawn_as_before() {
    is_golden("replayed", &replayed());
}

#[test]
fn an_order_that_waits_behind_a_lag_is_drawn_as_before() {
    is_golden("waiting", &waiting());
}

#[test]
fn nothing_covers_anything_else() {
    let flows = [
        (well(), true),
        (failed(), true),
        (replayed(), true),
        (waiting(), true),
        (many(70), true),
        (many(70), false),
    ];
    for (flow, collapses) in flows {
        let (items, axis, layout) = layout(&flow, collapses);
        for (at, one) in layout.places.iter().enumerate() {
            assert!(one.x0 >= NAMES - MARK && one.x1 <= axis.x1 + MARK, "{:?}", items[at]);
            for (other_at, other) in layout.places.iter().enumerate().skip(at + 1) {
                let is_beside = one.x1 <= other.x0 || other.x1 <= one.x0;
                let is_in_another_row = (one.y - other.y).abs() >= ROW;
                assert!(is_beside || is_in_another_row, "{:?} {:?}", items[at], items[other_at]);
            }
        }
        let lanes =
            layout.lanes.windows(2).all(|it| (it[0].y + it[0].height - it[1].y).abs() < 0.01);
        assert!(lanes, "lanes do not overlap");
    }
}

#[test]
fn effects_are_never_left_of_their_causes() {
    for flow in [well(), failed(), replayed(), waiting(), many(30)] {
        let (items, _, layout) = layout(&flow, true);
        for (at, item) in items.iter().enumerate() {
            let Some(cause) = item.cause else { continue };
            let (cause, effect) = (layout.places[cause].drawn().0, layout.places[at].drawn().0);
            assert!(effect >= cause - 0.01, "{item:?}");
        }
    }
}

#[test]
fn lanes_stand_in_the_order_of_an_event_on_its_way() {
    let names: Vec<_> = picture(&replayed()).lanes.into_iter().map(|it| it.name).collect();
    let wanted = [
        "order",
        "outbox",
        "Kafka",
        "billing",
        "analytics",
        "notification",
        "jobs",
        "dead letters",
        "replays",
    ];
    assert_eq!(names, wanted);
}

#[test]
fn failed_attempts_are_marks_and_the_time_between_is_a_wait() {
    let (items, _, _) = layout(&failed(), true);
    let billing = items.iter().find(|it| it.lane == Lane::Group("billing".into())).unwrap();
    let failures = billing.marks.iter().filter(|it| it.sign == Sign::Failure).count();
    assert_eq!(failures, 4);
    assert!(billing.intervals.iter().all(|it| it.kind == Kind::Waited), "{billing:?}");
    let letter = items.iter().find(|it| it.lane == Lane::Letters).unwrap();
    assert!(letter.is_open() && letter.tone == Tone::Failed);
}

#[test]
fn a_message_that_was_given_up_unfinished_is_not_done() {
    let (items, _, _) = layout(&restarted(), true);
    let billing = items.iter().find(|it| it.lane == Lane::Group("billing".into())).unwrap();
    let signs: Vec<_> = billing.marks.iter().map(|it| it.sign).collect();
    assert_eq!(signs, [Sign::Failure, Sign::Failure]);
    assert!(billing.is_open() && billing.tone == Tone::Waiting, "{billing:?}");
    assert!(billing.tip.contains("2 attempts failed, retry under way"), "{billing:?}");
}

#[test]
fn what_is_missing_is_dashed_and_says_why() {
    let svg = picture(&waiting()).render().unwrap();
    let reason = "waits behind 1,204 messages";
    assert!(svg.contains(&format!(">{reason}</text>")));
    assert_eq!(svg.matches("class=\"missing\"").count(), 1);
    assert!(svg.contains("2 attempts failed, retry under way"));
    assert!(svg.contains(">now</text>"));
    assert!(!picture(&well()).render().unwrap().contains(">now</text>"));
}

#[test]
fn of_200_steps_those_that_repeat_are_counted_in_their_lanes() {
    let flow = many(70);
    assert!(flow.nodes().len() > 200);
    let picture = picture(&flow);
    assert!(picture.targets().len() < 12 && picture.height < 500.0, "{}", picture.height);
    let svg = picture.render().unwrap();
    assert!(svg.contains("67 like it"));
    let all = Picture::new(&flow, at(NOW_MS), false, "?step=", None);
    assert!(all.targets().len() > 200);
}

#[test]
fn hostile_text_stays_text() {
    let svg = picture(&hostile()).render().unwrap();
    assert!(!svg.contains("<script") && !svg.contains("onload=\"") && !svg.contains("style="));
    assert!(!svg.chars().any(|c| c.is_control() && c != '\n') && !svg.contains('\u{202e}'));
    assert!(svg.contains("&#60;script") || svg.contains("&lt;script"));
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
}

#[test]
fn the_chosen_step_is_marked_and_every_step_has_an_address() {
    let flow = well();
    let key = flow.roots[0].short_key();
    let picture = Picture::new(&flow, at(NOW_MS), true, "/flow?q=c-1&step=", Some(&key));
    let svg = picture.render().unwrap();
    assert_eq!(svg.matches("class=\"chosen\" aria-current=\"true\"").count(), 1);
    assert!(svg.contains(&format!("href=\"/flow?q=c-1&#38;step={key}#step\"")));
    for node in flow.nodes() {
        assert!(svg.contains(&node.short_key()), "{node:?}");
    }
}
