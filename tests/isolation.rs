//! What was in flight when the host died runs alone for a while, and is not blamed for its neighbours.

#![expect(
    clippy::unwrap_used,
    clippy::unchecked_time_subtraction,
    reason = "the steps of a test must succeed"
)]

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use sandhog_queue::{Delivery, Queue, Settlement};
use sandhog_simple::{StoreHealth as _, settings::Settings};

use crate::queue_contract::{
    Backend as _, Durable, bodies, checked, defaults, end, failure, message, retry, send, take, take_one, taken,
    waiting,
};

const SECOND: Duration = Duration::from_secs(1);
/// For how long a suspect may hold the others back the first time.
const BOUND: Duration = Duration::from_secs(30);
const HOURS: Duration = Duration::from_hours(12);
const LONG: Duration = Duration::from_hours(1);

fn with_receives(max_receives: u32) -> Settings {
    Settings {
        max_receives: NonZeroU32::new(max_receives).unwrap(),
        ..defaults("orders")
    }
}

/// A store whose host died with these messages in flight.
async fn crashed(settings: &Settings, messages: &'static [&'static str]) -> Durable {
    let backend = Durable::new().await;
    let queue = backend.queue_with("orders", settings.clone()).await;
    send(&queue, messages.iter().map(|body| message(body))).await;
    assert_eq!(take(&queue, messages.len()).await.len(), messages.len());
    backend.restart().await
}

async fn extend(queue: &Arc<dyn Queue>, delivery: &Delivery, by: Duration) {
    queue
        .extend(vec![delivery.receipt.clone()], by)
        .await
        .pop()
        .unwrap()
        .unwrap();
}

/// Lets time pass as a host does that extends the lease of what it works on.
async fn hold(backend: &Durable, (queue, delivery): (&Arc<dyn Queue>, &Delivery), time: Duration) {
    let mut left = time;
    while !left.is_zero() {
        let step = left.min(10 * SECOND);
        backend.pass(step).await;
        extend(queue, delivery, BOUND).await;
        left -= step;
    }
}

async fn dead(queue: &Arc<dyn Queue>) -> Vec<String> {
    let letters = queue.dead_letters(None, 100).await.unwrap();
    letters
        .iter()
        .map(|letter| String::from_utf8_lossy(&letter.message.body).into_owned())
        .collect()
}

// An innocent neighbour was a dead letter as soon as it had been released: the receive that the crash spent was held against it.
#[tokio::test(start_paused = true)]
async fn a_neighbour_of_a_killer_is_no_dead_letter_however_often_it_is_released() {
    let settings = with_receives(1);
    let mut backend = crashed(&settings, &["innocent", "other"]).await;
    for crashes in 1..5 {
        let queue = backend.queue_with("orders", settings.clone()).await;
        for _ in 0..3 {
            let innocent = take_one(&queue).await;
            assert_eq!(
                bodies(std::slice::from_ref(&innocent)),
                ["innocent"],
                "after {crashes} crashes"
            );
            end(&queue, &innocent, Settlement::Release).await.unwrap();
        }
        // Long after they were handed out both are in flight when the host dies once more.
        for _ in 0..2 {
            let delivery = take_one(&queue).await;
            extend(&queue, &delivery, HOURS).await;
            backend.pass(HOURS / 4).await;
        }
        assert!(take(&queue, 9).await.is_empty());
        backend = backend.restart().await;
    }
    let queue = backend.queue_with("orders", settings).await;
    for _ in 0..2 {
        let delivery = take_one(&queue).await;
        end(&queue, &delivery, Settlement::Delete).await.unwrap();
    }
    assert_eq!(dead(&queue).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_neighbour_of_a_killer_is_no_dead_letter_for_a_lease_that_ran_out() {
    for visibility_timeout in [SECOND, BOUND, 10 * BOUND] {
        let settings = Settings {
            visibility_timeout,
            ..with_receives(1)
        };
        let backend = crashed(&settings, &["innocent", "other"]).await;
        let queue = backend.queue_with("orders", settings.clone()).await;
        take_one(&queue).await;
        backend.pass(visibility_timeout).await;
        // The other one may be handed out now or later; the first comes back all the same.
        let mut seen = Vec::new();
        for _ in 0..20 {
            backend.pass(visibility_timeout).await;
            for delivery in take(&queue, 2).await {
                seen.extend(bodies(std::slice::from_ref(&delivery)));
                end(&queue, &delivery, Settlement::Delete).await.unwrap();
            }
        }
        seen.sort();
        assert_eq!(seen, ["innocent", "other"], "{visibility_timeout:?}");
        assert_eq!(dead(&queue).await, [""; 0], "{visibility_timeout:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_receive_that_a_crash_spent_is_not_held_against_a_neighbour() {
    let settings = with_receives(2);
    let backend = crashed(&settings, &["innocent", "other"]).await;
    let queue = backend.queue_with("orders", settings).await;
    let innocent = take_one(&queue).await;
    end(&queue, &innocent, retry(Duration::ZERO)).await.unwrap();
    let other = take_one(&queue).await;
    end(&queue, &other, Settlement::Delete).await.unwrap();
    let innocent = take_one(&queue).await;
    assert_eq!(&*innocent.message.body, b"innocent");
    end(&queue, &innocent, retry(Duration::ZERO)).await.unwrap();
    // Now it has failed as often as it may.
    assert_eq!(dead(&queue).await, ["innocent"]);
}

#[tokio::test(start_paused = true)]
async fn a_released_suspect_is_alone_again() {
    let backend = crashed(&with_receives(5), &["a", "b"]).await;
    let queue = backend.queue("orders").await;
    send(&queue, [message("c")]).await;
    let first = take_one(&queue).await;
    end(&queue, &first, Settlement::Release).await.unwrap();
    let again = take(&queue, 9).await;
    assert_eq!(bodies(&again), ["a"]);
    assert!(take(&queue, 9).await.is_empty());
    // Also after an orderly end.
    end(&queue, &again[0], Settlement::Release).await.unwrap();
    let backend = backend.restart().await;
    let queue = backend.queue("orders").await;
    assert_eq!(bodies(&take(&queue, 9).await), ["a"]);
}

// The gate was closed until the suspect's deadline, which the host itself extends: for twelve hours, if need be.
#[tokio::test(start_paused = true)]
async fn a_suspect_holds_the_rest_back_for_a_bound_whoever_holds_it() {
    for extended in [true, false] {
        let backend = crashed(&with_receives(5), &["long", "short"]).await;
        let (queue, other) = (backend.queue("orders").await, backend.queue("other").await);
        send(&other, [message("x")]).await;
        let long = take_one(&queue).await;
        extend(&queue, &long, if extended { BOUND } else { HOURS }).await;
        if extended {
            hold(&backend, (&queue, &long), BOUND - SECOND).await;
        } else {
            backend.pass(BOUND - SECOND).await;
        }
        assert!(take(&other, 1).await.is_empty());
        assert!(!backend.store.troubles().is_empty(), "readiness tells");
        backend.pass(SECOND).await;
        let x = take_one(&other).await;
        assert_eq!(backend.store.troubles(), [""; 0]);
        end(&other, &x, Settlement::Delete).await.unwrap();
        end(&queue, &long, Settlement::Delete).await.unwrap();
    }
}

// Suspects in flight were taken for some that were ready, so one message was not seen to be held back before all of them had run.
#[tokio::test(start_paused = true)]
async fn one_message_of_the_suspects_own_queue_goes_after_the_first_of_them() {
    let settings = Settings {
        visibility_timeout: 5 * SECOND,
        ..with_receives(5)
    };
    let backend = crashed(&settings, &["a", "b", "c", "d"]).await;
    let queue = backend.queue_with("orders", settings).await;
    send(&queue, [message("ordinary")]).await;
    let suspect = take_one(&queue).await;
    extend(&queue, &suspect, HOURS).await;
    assert!(take(&queue, 9).await.is_empty());
    backend.pass(5 * SECOND).await;
    assert_eq!(taken(&queue, 9).await, ["ordinary"]);
}

// The others slept until the time that the suspect had when they asked.
#[tokio::test(start_paused = true)]
async fn a_suspect_that_is_given_less_time_holds_nobody_back_for_longer() {
    let backend = crashed(&with_receives(5), &["a"]).await;
    let (queue, other) = (backend.queue("orders").await, backend.queue("other").await);
    send(&other, [message("x")]).await;
    let suspect = take_one(&queue).await;
    let mut receives = waiting(&other, LONG).await;
    extend(&queue, &suspect, 5 * SECOND).await;
    for _ in 0..5 {
        tokio::task::yield_now().await;
        queue.counts().await.unwrap();
    }
    backend.pass(5 * SECOND).await;
    for _ in 0..5 {
        tokio::task::yield_now().await;
        queue.counts().await.unwrap();
    }
    assert_eq!(receives.try_join_next().unwrap().unwrap(), ["x"]);
}

#[tokio::test(start_paused = true)]
async fn many_long_suspects_run_side_by_side_and_leave_the_store_open_most_of_the_time() {
    let suspects = &["a", "b", "c", "d", "e", "f", "g", "h"];
    let backend = crashed(&with_receives(5), suspects).await;
    let (queue, other) = (backend.queue("orders").await, backend.queue("other").await);
    let (mut running, mut open, mut rounds) = (Vec::new(), 0, 0);
    while running.len() < suspects.len() {
        for delivery in take(&queue, 9).await {
            extend(&queue, &delivery, HOURS).await;
            running.push(delivery);
        }
        other.send(checked(message("x"))).await.unwrap();
        let deliveries = take(&other, 9).await;
        open += usize::from(!deliveries.is_empty());
        for delivery in deliveries {
            end(&other, &delivery, Settlement::Delete).await.unwrap();
        }
        backend.pass(SECOND).await;
        rounds += 1;
        assert!(rounds < 300, "{} of them run", running.len());
    }
    assert!(open * 2 + 10 >= rounds, "open in {open} of {rounds} seconds");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_suspect_passes_those_that_wait_for_their_turn() {
    let backend = crashed(&with_receives(5), &["a", "b"]).await;
    let queue = backend.queue("orders").await;
    send(&queue, [message("c"), message("d")]).await;
    let first = take_one(&queue).await;
    extend(&queue, &first, HOURS).await;
    assert!(take(&queue, 9).await.is_empty());
    backend.pass(BOUND).await;
    assert_eq!(bodies(&take(&queue, 9).await), ["c", "d"]);
}

// Beside an attempt of hours nothing was ever alone, and so the crash was never counted.
#[tokio::test(start_paused = true)]
async fn a_killer_beside_long_suspects_is_counted_out() {
    let settings = with_receives(3);
    let mut backend = crashed(&settings, &["long", "killer", "longer"]).await;
    let mut kills = 1;
    let queue = loop {
        let queue = backend.queue_with("orders", settings.clone()).await;
        let mut killed = false;
        for _ in 0..300 {
            for delivery in take(&queue, 9).await {
                killed |= &*delivery.message.body == b"killer";
                extend(&queue, &delivery, HOURS).await;
            }
            if killed {
                break;
            }
            backend.pass(SECOND).await;
        }
        if !killed {
            break queue;
        }
        backend.pass(SECOND).await;
        kills += 1;
        assert!(kills <= 3, "it may kill three times");
        backend = backend.restart().await;
    };
    assert_eq!(dead(&queue).await, ["killer"]);
    assert_eq!(kills, 3);
}

// What kills the host later than it is alone for would never be alone when it does.
#[tokio::test(start_paused = true)]
async fn a_slow_killer_is_alone_for_longer_each_time_and_counted_out() {
    let settings = with_receives(2);
    let mut backend = crashed(&settings, &["slow killer", "innocent"]).await;
    for _ in 0..10 {
        let (queue, other) = (
            backend.queue_with("orders", settings.clone()).await,
            backend.queue("other").await,
        );
        let Some(killer) = take(&queue, 1).await.pop() else {
            break;
        };
        if &*killer.message.body != b"slow killer" {
            break;
        }
        extend(&queue, &killer, HOURS).await;
        for _ in 0..10 {
            backend.pass(10 * SECOND).await;
            other.send(checked(message("x"))).await.unwrap();
            take(&other, 1).await;
        }
        backend = backend.restart().await;
    }
    let queue = backend.queue_with("orders", settings).await;
    assert_eq!(dead(&queue).await, ["slow killer"]);
}

#[tokio::test(start_paused = true)]
async fn a_redriven_or_retried_neighbour_starts_without_the_crash() {
    let settings = with_receives(1);
    let backend = crashed(&settings, &["innocent", "other"]).await;
    let queue = backend.queue_with("orders", settings).await;
    let innocent = take_one(&queue).await;
    let failure = failure("bad");
    end(&queue, &innocent, Settlement::DeadLetter { failure })
        .await
        .unwrap();
    let letter = queue.dead_letters(None, 1).await.unwrap().pop().unwrap();
    assert_eq!(letter.receive_count, 1, "the crash is not counted");
    queue.redrive(None, 1).await.unwrap();
    let other = take_one(&queue).await;
    end(&queue, &other, Settlement::Delete).await.unwrap();
    let again = take_one(&queue).await;
    assert_eq!(again.receive_count.get(), 1);
    end(&queue, &again, Settlement::Release).await.unwrap();
    take_one(&queue).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_in_flight_beside_a_killer_is_not_blamed() {
    let backend = Durable::new().await;
    let settings = Settings {
        max_receives: NonZeroU32::MIN,
        ..defaults("orders")
    };
    let queue = backend.queue_with("orders", settings.clone()).await;
    send(&queue, ["innocent", "killer"].map(message)).await;
    take(&queue, 2).await;
    let backend = backend.restart().await;
    let queue = backend.queue_with("orders", settings.clone()).await;
    let innocent = take_one(&queue).await;
    assert_eq!(bodies(std::slice::from_ref(&innocent)), ["innocent"]);
    end(&queue, &innocent, Settlement::Delete).await.unwrap();
    take_one(&queue).await;
    let backend = backend.restart().await;
    let queue = backend.queue_with("orders", settings).await;
    assert!(take(&queue, 1).await.is_empty(), "the killer was alone this time");
    assert_eq!(queue.counts().await.unwrap().dead, 1);
}

#[tokio::test(start_paused = true)]
async fn a_suspect_runs_alone_in_the_whole_store() {
    let backend = Durable::new().await;
    let queue = backend.queue("orders").await;
    send(&queue, ["a", "b", "c"].map(message)).await;
    take(&queue, 2).await;
    let backend = backend.restart().await;
    let (queue, other) = (backend.queue("orders").await, backend.queue("other").await);
    send(&other, [message("x")]).await;
    let first = take(&queue, 9).await;
    assert_eq!(bodies(&first), ["a"], "one suspect, however many were asked for");
    assert!(take(&queue, 9).await.is_empty());
    assert!(take(&other, 9).await.is_empty());
    let mut receives = waiting(&other, LONG).await;
    end(&queue, &first[0], Settlement::Delete).await.unwrap();
    assert_eq!(receives.join_next().await.unwrap().unwrap(), ["x"]);
}

#[tokio::test(start_paused = true)]
async fn a_suspect_waits_for_quiet_but_not_for_ever() {
    let backend = Durable::new().await;
    let queue = backend.queue("orders").await;
    send(&queue, [message("suspect")]).await;
    take_one(&queue).await;
    let backend = backend.restart().await;
    let (queue, other) = (backend.queue("orders").await, backend.queue("other").await);
    send(&other, ["x", "y"].map(message)).await;
    let settings = Settings {
        visibility_timeout: LONG,
        ..defaults("other")
    };
    let other = {
        drop(other);
        backend.queue_with("other", settings).await
    };
    take_one(&other).await;
    let mut receives = waiting(&queue, LONG).await;
    assert!(take(&other, 1).await.is_empty(), "the suspect waits for quiet");
    for _ in 0..30 {
        backend.pass(SECOND).await;
        queue.counts().await.unwrap();
    }
    assert_eq!(receives.join_next().await.unwrap().unwrap(), ["suspect"]);
}

#[tokio::test(start_paused = true)]
async fn a_suspect_starts_as_soon_as_it_is_quiet() {
    let backend = Durable::new().await;
    let queue = backend.queue("orders").await;
    send(&queue, [message("suspect")]).await;
    take_one(&queue).await;
    let backend = backend.restart().await;
    let (queue, other) = (backend.queue("orders").await, backend.queue("other").await);
    send(&other, [message("x")]).await;
    let delivery = take_one(&other).await;
    let mut receives = waiting(&queue, LONG).await;
    end(&other, &delivery, Settlement::Delete).await.unwrap();
    assert_eq!(receives.join_next().await.unwrap().unwrap(), ["suspect"]);
}

#[tokio::test(start_paused = true)]
async fn a_suspect_without_a_receiver_blocks_nobody() {
    let backend = Durable::new().await;
    let queue = backend.queue("orders").await;
    send(&queue, [message("suspect")]).await;
    take_one(&queue).await;
    let backend = backend.restart().await;
    let (queue, other) = (backend.queue("orders").await, backend.queue("other").await);
    send(&other, ["x", "y", "z"].map(message)).await;
    take_one(&other).await;
    assert!(take(&queue, 1).await.is_empty(), "waits for quiet, and goes away");
    let mut receives = waiting(&other, LONG).await;
    backend.pass(3 * SECOND).await;
    assert_eq!(receives.join_next().await.unwrap().unwrap(), ["y", "z"]);
    // Nor does one that was received by somebody who vanished.
    backend.pass(queue.visibility_timeout()).await;
    take_one(&queue).await;
    assert!(take(&other, 1).await.is_empty());
    backend.pass(queue.visibility_timeout()).await;
    assert_eq!(taken(&other, 9).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_settled_suspect_is_a_message_like_any_other() {
    let backend = Durable::new().await;
    let queue = backend.queue("orders").await;
    send(&queue, ["a", "b"].map(message)).await;
    take_one(&queue).await;
    let backend = backend.restart().await;
    let queue = backend.queue("orders").await;
    let suspect = take_one(&queue).await;
    end(&queue, &suspect, retry(Duration::ZERO)).await.unwrap();
    assert_eq!(taken(&queue, 9).await, ["a", "b"]);
}
