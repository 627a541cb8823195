use super::*;

fn record(offset: i64) -> Record {
    Record {
        topic: "t".into(),
        partition: 0,
        offset,
        timestamp: None,
        key: None,
        value: Some(vec![0; 100]),
        headers: kafka::Headers::new(),
    }
}

fn finish(partitions: &Arc<Partitions>, ticket: &Ticket) {
    partitions.begin(ticket).expect("assigned").finish();
}

#[test]
fn the_offset_stored_is_the_contiguous_prefix() {
    let partitions = Arc::new(Partitions::default());
    let tickets: Vec<_> =
        [3, 4, 7, 9].map(|offset| partitions.enter(&record(offset)).expect("new")).into();
    finish(&partitions, &tickets[1]);
    finish(&partitions, &tickets[3]);
    assert_eq!(partitions.take_finished(), []);
    finish(&partitions, &tickets[0]);
    // 5 and 6 are no messages: there was none between 4 and 7.
    assert_eq!(partitions.take_finished(), [(("t".into(), 0), 6)]);
    assert_eq!(partitions.take_finished(), [], "stored once");
    finish(&partitions, &tickets[2]);
    assert_eq!(partitions.take_finished(), [(("t".into(), 0), 9)]);
}

#[test]
fn the_longest_range_without_messages_is_found_once() {
    let partitions = Partitions::default();
    let key = ("t".to_owned(), 0);
    for offset in [3, 4] {
        partitions.enter(&record(offset)).expect("new");
    }
    assert_eq!(partitions.take_skipped(&key), None, "nobody knows what was before the first");
    for offset in [6, 106, 110, 111] {
        partitions.enter(&record(offset)).expect("new");
    }
    assert_eq!(partitions.take_skipped(&key), Some(7..106));
    assert_eq!(partitions.take_skipped(&key), None);
}

#[test]
fn what_is_read_again_after_a_stop_is_not_missing_once_more() {
    let partitions = Arc::new(Partitions::default());
    let key = ("t".to_owned(), 0);
    let tickets: Vec<_> =
        [7, 100].map(|offset| partitions.enter(&record(offset)).expect("new")).into();
    assert_eq!(partitions.take_skipped(&key), Some(8..100));
    finish(&partitions, &tickets[1]);
    partitions.stop(Duration::ZERO);
    partitions.resume_all();
    partitions.enter(&record(150)).expect("new");
    assert_eq!(partitions.take_skipped(&key), Some(101..150), "7 is one at most");
}

#[test]
fn a_partition_that_was_read_to_an_end_without_messages_has_skipped_them() {
    let partitions = Partitions::default();
    let key = ("t".to_owned(), 0);
    partitions.assign([key.clone()]);
    partitions.starts_at(&key, 50);
    for _ in 0..2 {
        partitions.has_read(&key, 100);
    }
    assert_eq!(partitions.take_skipped(&key), Some(50..100));
}

#[test]
fn what_is_missing_after_the_committed_offset_is_found_whenever_that_is_known() {
    let key = ("t".to_owned(), 0);
    for is_known_first in [true, false] {
        let partitions = Partitions::default();
        partitions.assign([key.clone()]);
        assert_eq!(partitions.take_assigned(), std::slice::from_ref(&key));
        assert_eq!(partitions.take_assigned(), [], "asked once");
        if is_known_first {
            partitions.starts_at(&key, 100);
        }
        partitions.enter(&record(5_000)).expect("new");
        if !is_known_first {
            partitions.starts_at(&key, 100);
        }
        assert_eq!(partitions.take_skipped(&key), Some(100..5_000));
    }
}

#[test]
fn the_oldest_is_the_first_that_is_not_finished() {
    let partitions = Arc::new(Partitions::default());
    let written = |offset, timestamp| Record { timestamp: Some(timestamp), ..record(offset) };
    let tickets = [(0, 300), (1, 100), (2, 200)]
        .map(|it| partitions.enter(&written(it.0, it.1)).expect("new"));
    assert_eq!(partitions.oldest(), Some(300));
    finish(&partitions, &tickets[1]);
    finish(&partitions, &tickets[0]);
    assert_eq!(partitions.oldest(), Some(200));
    finish(&partitions, &tickets[2]);
    assert_eq!(partitions.oldest(), None);
}

#[test]
fn what_was_begun_and_dropped_is_not_done() {
    let partitions = Arc::new(Partitions::default());
    let ticket = partitions.enter(&record(3)).expect("new");
    drop(partitions.begin(&ticket));
    assert_eq!(partitions.take_finished(), []);
}

#[test]
fn a_revoked_partition_cancels_what_is_queued_and_waits_for_what_runs() {
    let partitions = Arc::new(Partitions::default());
    let (first, second) =
        (partitions.enter(&record(0)).expect("new"), partitions.enter(&record(1)).expect("new"));
    let running = partitions.begin(&first).expect("assigned");
    let during = Arc::clone(&partitions);
    let worker = std::thread::spawn(move || {
        // The revocation waits for this, so the partition is seen while it is being given up.
        while !during.lock().assigned[&("t".into(), 0)].revoked {
            std::thread::yield_now();
        }
        assert!(during.begin(&second).is_none(), "nothing more begins meanwhile");
        running.finish();
        second
    });
    let key = ("t".to_owned(), 0);
    let revoked = partitions.revoke(vec![key.clone()], Duration::from_secs(10));
    let second = worker.join().expect("no panic");
    let drained = Revoked { partition: key, finished: Some(0), paused: false, drained: true };
    assert_eq!(revoked, [drained]);
    assert!(partitions.begin(&second).is_none());

    let redelivered = partitions.enter(&record(1)).expect("new");
    assert!(partitions.begin(&second).is_none(), "an earlier assignment's ticket stays void");
    assert!(partitions.begin(&redelivered).is_some());
}

#[test]
fn a_zombie_that_finishes_late_moves_nothing() {
    let partitions = Arc::new(Partitions::default());
    let ticket = partitions.enter(&record(0)).expect("new");
    let zombie = partitions.begin(&ticket).expect("assigned");
    assert_eq!(partitions.revoke(vec![("t".into(), 0)], Duration::ZERO)[0].finished, None);
    partitions.enter(&record(0)).expect("new");
    zombie.finish();
    assert_eq!(partitions.take_finished(), []);
}

#[test]
fn what_ran_in_a_topic_that_was_made_anew_holds_up_nothing() {
    let partitions = Arc::new(Partitions::default());
    let old =
        [partitions.enter(&record(6)).expect("new"), partitions.enter(&record(7)).expect("new")];
    let running = partitions.begin(&old[1]).expect("assigned");
    finish(&partitions, &old[0]);
    partitions.enter(&record(0)).expect("new");
    assert_eq!(partitions.take_finished(), [], "offset 6 is one of the topic that is gone");
    assert!(partitions.close(Duration::ZERO), "nothing runs in the new one");
    running.finish();
    assert_eq!(partitions.take_finished(), []);
}

#[test]
fn what_is_no_message_is_behind_once_the_client_has_read_beyond_it() {
    let partitions = Arc::new(Partitions::default());
    let key = ("t".to_owned(), 0);
    let last = partitions.enter(&record(3)).expect("new");
    partitions.has_read(&key, 5);
    finish(&partitions, &partitions.enter(&record(4)).expect("new"));
    partitions.has_read(&key, 6);
    assert_eq!(partitions.position(&key), Some(3));
    partitions.has_read(&key, 6);
    assert_eq!(partitions.take_finished(), [], "the message before is not finished");
    finish(&partitions, &last);
    assert_eq!(partitions.take_finished(), [(key.clone(), 5)]);
    assert_eq!(partitions.position(&key), Some(6));
    (0..2).for_each(|_| partitions.has_read(&key, 2));
    assert_eq!(partitions.take_finished(), [], "an older report changes nothing");
}

#[test]
fn what_was_finished_before_a_stop_is_not_begun_again() {
    let partitions = Arc::new(Partitions::default());
    let tickets: Vec<_> = (0..5).map(|it| partitions.enter(&record(it)).expect("new")).collect();
    for done in [0, 2, 4] {
        finish(&partitions, &tickets[done]);
    }
    let key = ("t".to_owned(), 0);
    assert_eq!(partitions.stop(Duration::ZERO), [(key.clone(), Some(1))]);
    assert!(partitions.begin(&tickets[1]).is_none(), "it was given up");
    let first = partitions.enter(&record(1)).expect("it was not finished");
    finish(&partitions, &first);
    // Stopped again before all was read again.
    assert_eq!(partitions.stop(Duration::ZERO), [(key, Some(2))]);
    let read: Vec<_> = (2..7).map(|it| partitions.enter(&record(it))).collect();
    let begun: Vec<_> = read.iter().map(Option::is_some).collect();
    assert_eq!(begun, [false, true, false, true, true]);
    assert_eq!(partitions.take_finished(), [(("t".into(), 0), 2)]);
}

#[test]
fn what_comes_in_a_topic_that_was_made_anew_during_a_stop_is_not_finished() {
    let partitions = Arc::new(Partitions::default());
    let written = |offset, timestamp| Record { timestamp: Some(timestamp), ..record(offset) };
    let tickets: Vec<_> =
        (10..20).map(|it| partitions.enter(&written(it, 1)).expect("new")).collect();
    tickets[1..].iter().for_each(|ticket| finish(&partitions, ticket));
    assert_eq!(partitions.stop(Duration::ZERO), [(("t".into(), 0), Some(10))]);
    let seen = [10, 11].map(|it| partitions.look_at(&written(it, 2)).is_some());
    assert_eq!(seen, [true; 2], "nor during the stop");
    partitions.resume_all();
    let read: Vec<_> = (10..20).map(|it| partitions.enter(&written(it, 2))).collect();
    assert!(read.iter().all(Option::is_some), "{read:?}");
}

#[test]
fn pressure_has_hysteresis() {
    let partitions = Arc::new(Partitions::default());
    let tickets: Vec<_> =
        (0..4).map(|offset| partitions.enter(&record(offset)).expect("new")).collect();
    let key = ("t".to_owned(), 0);
    let full = ExceededLimits { is_full: true, partitions: HashSet::from([key.clone()]) };
    assert_eq!(partitions.pressure(4, usize::MAX, &full).pause, std::slice::from_ref(&key));
    assert_eq!(partitions.pressure(4, usize::MAX, &full), Pressure::default());
    finish(&partitions, &tickets[0]);
    assert_eq!(partitions.pressure(4, usize::MAX, &full), Pressure::default());
    finish(&partitions, &tickets[1]);
    assert_eq!(partitions.pressure(4, usize::MAX, &full).resume, std::slice::from_ref(&key));
    assert_eq!(partitions.pressure(4, 100, &full).pause, [key], "bytes count as well");
}

#[test]
fn messages_that_stay_do_not_keep_the_rest_of_the_room_empty() {
    let partitions = Arc::new(Partitions::default());
    let tickets: Vec<_> =
        (0..8).map(|offset| partitions.enter(&record(offset)).expect("new")).collect();
    let key = ("t".to_owned(), 0);
    let full = ExceededLimits { partitions: [key.clone()].into(), ..ExceededLimits::default() };
    let pressure = || partitions.pressure(8, usize::MAX, &full);
    assert_eq!(pressure().pause, std::slice::from_ref(&key));
    finish(&partitions, &tickets[0]);
    assert_eq!(pressure(), Pressure::default(), "there may be half of the room soon");
    let since = Instant::now().checked_sub(LONG);
    partitions.lock().assigned.get_mut(&key).expect("assigned").relieved_since = since;
    assert_eq!(pressure().resume, [key]);
}

#[test]
fn bytes_of_all_partitions_count_together() {
    let partitions = Arc::new(Partitions::default());
    let of = |partition| Record { partition, ..record(0) };
    let tickets: Vec<_> = (0..4).map(|it| partitions.enter(&of(it)).expect("new")).collect();
    let held = partitions.bytes();
    let full = ExceededLimits { is_full: true, ..ExceededLimits::default() };
    assert_eq!(partitions.pressure(100, held + 1, &full), Pressure::default());
    assert_eq!(partitions.pressure(100, held, &full).pause.len(), 4);
    tickets[..2].iter().for_each(|ticket| finish(&partitions, ticket));
    assert_eq!(partitions.pressure(100, held, &full).resume.len(), 4);
    tickets[2..].iter().for_each(|ticket| finish(&partitions, ticket));
    assert_eq!(partitions.bytes(), 0);
}

#[test]
fn bytes_pause_only_once_waiting_made_no_room() {
    let partitions = Arc::new(Partitions::default());
    let ticket = partitions.enter(&record(0)).expect("new");
    let held = partitions.bytes();
    assert_eq!(partitions.pressure(100, held, &ExceededLimits::default()), Pressure::default());
    assert!(!partitions.await_less(held, Duration::from_millis(1)), "nobody finishes it");
    std::thread::scope(|scope| {
        scope.spawn(|| finish(&partitions, &ticket));
        assert!(partitions.await_less(held, Duration::from_mins(1)));
    });
}

#[test]
fn messages_pause_a_partition_only_once_waiting_made_no_room() {
    let partitions = Arc::new(Partitions::default());
    let tickets: Vec<_> =
        (0..4).map(|offset| partitions.enter(&record(offset)).expect("new")).collect();
    let key = ("t".to_owned(), 0);
    assert_eq!(partitions.load(&key).messages, 4);
    assert_eq!(partitions.pressure(4, usize::MAX, &ExceededLimits::default()), Pressure::default());
    assert!(!partitions.await_fewer(&key, 4, Duration::from_millis(1)), "nobody finishes one");
    std::thread::scope(|scope| {
        scope.spawn(|| finish(&partitions, &tickets[0]));
        assert!(partitions.await_fewer(&key, 4, Duration::from_mins(1)));
    });
    let full =
        ExceededLimits { partitions: HashSet::from([key.clone()]), ..ExceededLimits::default() };
    assert_eq!(partitions.pressure(4, usize::MAX, &full), Pressure::default(), "one is done");
    assert_eq!(partitions.pressure(3, usize::MAX, &full).pause, std::slice::from_ref(&key));
    assert!(partitions.await_fewer(&key, 0, Duration::from_mins(1)), "it is paused");
}

#[test]
fn what_is_done_behind_a_message_that_waits_takes_no_room() {
    let partitions = Arc::new(Partitions::default());
    let tickets: Vec<_> =
        (0..50).map(|offset| partitions.enter(&record(offset)).expect("new")).collect();
    tickets[1..].iter().for_each(|ticket| finish(&partitions, ticket));
    assert_eq!(partitions.take_finished(), [], "the first one waits");
    let key = ("t".to_owned(), 0);
    let full = ExceededLimits { is_full: true, partitions: HashSet::from([key.clone()]) };
    assert_eq!(partitions.pressure(4, 2_000, &full), Pressure::default());
    assert!(partitions.await_fewer(&key, 4, Duration::from_millis(1)));
}
