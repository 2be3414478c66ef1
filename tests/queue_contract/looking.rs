//! Claims about looking at messages, and about dead letters that are chosen by a filter.

use std::{collections::BTreeMap, sync::Arc};

use sandhog_queue::{
    Queue, SendError, SentAgain, Settlement,
    message::{AttributeValue, Attributes, MessageId, Outgoing},
    message_filter::{AgeRelation, FilterClause, FilterField, MessageFilter, MessageStanding, TextRelation},
    peek::{DeadLetterAction, DeadLetterSweep, PeekCursor, PeekRequest, PeekScope, PeekedMessage},
};
use sandhog_simple::{SimpleStore, settings::Settings};

use super::{
    Backend, Durable, Ephemeral, LONG, SECOND, StillTime, bury, checked, defaults, end, failure, grouped, message,
    retry, send, take, take_one, taken, urgent,
};

contract! {
    a_peek_finds_what_was_acknowledged_and_receives_nothing,
    a_peek_says_what_each_message_waits_for,
    a_peek_page_by_page_sees_every_message_that_stays_once,
    a_peek_sees_what_is_in_flight_however_far_apart_it_lies,
    a_peek_shows_the_messages_that_pass_its_filter,
    a_peek_at_dead_letters_finds_them_where_they_are_and_by_where_they_came_from,
    dead_letters_that_pass_a_filter_are_put_back_and_the_others_stay,
    a_dead_letter_that_dies_again_is_not_put_back_twice_by_one_sweep,
    dead_letters_are_deleted_by_id_or_by_filter_and_the_others_stay,
    a_dead_letter_is_replaced_as_a_whole_or_not_at_all,
    a_copy_of_a_message_is_no_duplicate_of_it,
    a_sweep_from_where_a_count_began_leaves_the_dead_letters_that_came_later,
    every_page_counts_ages_up_to_the_first_one,
    a_dead_letter_is_found_by_its_id_for_as_long_as_it_is_one,
    a_dead_letter_that_somebody_holds_is_neither_deleted_nor_replaced_nor_put_back,
    a_dead_letter_is_free_once_its_holders_time_is_over,
    a_purge_of_dead_letters_leaves_the_queue_and_the_letters_of_others,
    what_was_made_from_a_message_says_so_for_as_long_as_it_lives,
}

fn all() -> PeekRequest {
    PeekRequest {
        scope: PeekScope::Messages,
        filter: MessageFilter::default(),
        after: None,
        limit: 1000,
        body_limit: None,
    }
}

fn text(field: FilterField, relation: TextRelation, value: &str) -> MessageFilter {
    let clause = FilterClause::Text {
        field,
        relation,
        value: value.to_owned(),
    };
    MessageFilter::new(vec![clause]).unwrap()
}

fn body_has(value: &str) -> MessageFilter {
    text(FilterField::Body, TextRelation::Contains, value)
}

fn body(peeked: &PeekedMessage) -> String {
    String::from_utf8(peeked.message.body.to_vec()).unwrap()
}

async fn seen_by(queue: &Arc<dyn Queue>, request: PeekRequest) -> Vec<String> {
    let page = queue.peek(request).await.unwrap();
    assert_eq!(page.next, None, "one page has all of it");
    page.messages.iter().map(body).collect()
}

async fn seen(queue: &Arc<dyn Queue>, filter: MessageFilter) -> Vec<String> {
    seen_by(queue, PeekRequest { filter, ..all() }).await
}

async fn standings(queue: &Arc<dyn Queue>) -> BTreeMap<String, MessageStanding> {
    let page = queue.peek(all()).await.unwrap();
    page.messages
        .iter()
        .map(|message| (body(message), message.standing))
        .collect()
}

async fn a_peek_finds_what_was_acknowledged_and_receives_nothing(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    for letter in ["a", "b", "c"] {
        queue.send(checked(message(letter))).await.unwrap();
        assert!(
            seen(&queue, MessageFilter::default())
                .await
                .contains(&letter.to_owned())
        );
    }
    let before = queue.counts().await.unwrap();
    assert_eq!(seen(&queue, MessageFilter::default()).await, ["a", "b", "c"]);
    assert_eq!(queue.counts().await.unwrap(), before);
    let delivery = take_one(&queue).await;
    assert_eq!((&*delivery.message.body, delivery.receive_count.get()), (&b"a"[..], 1));
}

async fn a_peek_says_what_each_message_waits_for(backend: &impl Backend) {
    use MessageStanding::{Delayed, Held, InFlight, Ready, Retry};
    let queue = backend.queue("orders").await;
    send(&queue, ["taken", "again"].map(message)).await;
    let deliveries = take(&queue, 2).await;
    end(&queue, &deliveries[1], retry(60 * SECOND)).await.unwrap();
    let late = Outgoing {
        delay: Some(90 * SECOND),
        ..message("late")
    };
    send(&queue, [grouped("first", "g"), grouped("second", "g"), late]).await;
    let expected = |pairs: [(&str, MessageStanding); 5]| {
        pairs
            .into_iter()
            .map(|(body, standing)| (body.to_owned(), standing))
            .collect::<BTreeMap<_, _>>()
    };
    let at_first = [
        ("taken", InFlight),
        ("again", Retry),
        ("first", Ready),
        ("second", Held),
        ("late", Delayed),
    ];
    assert_eq!(standings(&queue).await, expected(at_first));
    for (body, standing) in at_first {
        let clause = FilterClause::Standing { is: true, standing };
        assert_eq!(seen(&queue, MessageFilter::new(vec![clause]).unwrap()).await, [body]);
    }
    let page = queue.peek(all()).await.unwrap();
    let hidden: Vec<_> = page
        .messages
        .iter()
        .filter(|message| message.visible_at_ms.is_some())
        .map(body)
        .collect();
    assert_eq!(hidden, ["again", "late"]);
    let again = page.messages.iter().find(|message| body(message) == "again").unwrap();
    assert_eq!((again.receive_count, again.failure.is_some()), (1, true));
    backend.pass(100 * SECOND).await;
    let later = [
        ("taken", Ready),
        ("again", Ready),
        ("first", Ready),
        ("second", Held),
        ("late", Ready),
    ];
    assert_eq!(standings(&queue).await, expected(later));
}

async fn a_peek_sees_what_is_in_flight_however_far_apart_it_lies(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    let other = backend.queue("other").await;
    // Both queues share the places of the store, and the other one has messages in flight in nearly all of these.
    send(&queue, [message("first")]).await;
    assert_eq!(take(&queue, 1).await.len(), 1);
    for _ in 0..9 {
        send(&other, (0..1000).map(|_| message("of another queue"))).await;
    }
    send(&queue, [message("last")]).await;
    assert_eq!(take(&queue, 1).await.len(), 1);
    let mut taken = 0;
    while taken < 9000 {
        taken += take(&other, 1000).await.len();
    }
    let clause = FilterClause::Standing {
        is: true,
        standing: MessageStanding::InFlight,
    };
    let filter = MessageFilter::new(vec![clause]).unwrap();
    assert_eq!(seen(&queue, filter.clone()).await, ["first", "last"]);
    let pages = |queue: Arc<dyn Queue>| {
        let filter = filter.clone();
        async move {
            let (mut found, mut after) = (0, None);
            loop {
                let request = PeekRequest {
                    after,
                    limit: 100,
                    filter: filter.clone(),
                    ..all()
                };
                let page = queue.peek(request).await.unwrap();
                found += page.messages.len();
                after = page.next;
                if after.is_none() {
                    return found;
                }
            }
        }
    };
    assert_eq!(pages(Arc::clone(&other)).await, 9000);
}

async fn a_peek_page_by_page_sees_every_message_that_stays_once(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    let other = backend.queue("other").await;
    let numbered = |number: usize| Outgoing {
        body: number.to_string().into(),
        priority: Some(u8::try_from(number % 3).unwrap()),
        group_id: number.is_multiple_of(5).then(|| "g".to_owned()),
        ..Outgoing::default()
    };
    for number in 0..700 {
        send(&queue, [numbered(number)]).await;
        send(&other, [message("of another queue")]).await;
    }
    let mut found = Vec::new();
    let mut gone = Vec::new();
    let mut after: Option<PeekCursor> = None;
    loop {
        let request = PeekRequest {
            after,
            limit: 30,
            body_limit: Some(2),
            ..all()
        };
        let page = queue.peek(request).await.unwrap();
        found.extend(page.messages.iter().map(|message| message.message.id.clone()));
        after = page.next;
        if after.is_none() {
            break;
        }
        // Between the pages a handler works, and senders send.
        let deliveries = take(&queue, 5).await;
        for (number, delivery) in deliveries.iter().enumerate() {
            let settlement = match number {
                0 => {
                    gone.push(delivery.message.id.clone());
                    Settlement::Delete
                }
                1 => retry(60 * SECOND),
                2 => Settlement::Release,
                _ => continue,
            };
            end(&queue, delivery, settlement).await.unwrap();
        }
        send(&queue, [message("new")]).await;
    }
    let distinct: std::collections::BTreeSet<_> = found.iter().collect();
    assert_eq!(distinct.len(), found.len(), "none twice");
    assert!(gone.len() > 10);
    let stayed = queue.peek(all()).await.unwrap().messages.into_iter();
    let stayed: Vec<MessageId> = stayed
        .filter(|message| body(message) != "new")
        .map(|message| message.message.id)
        .collect();
    assert_eq!(stayed.len() + gone.len(), 700);
    assert!(stayed.iter().all(|id| distinct.contains(id)), "all that stayed");
}

async fn a_peek_shows_the_messages_that_pass_its_filter(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    let large = format!("{}needle", "x".repeat(3000));
    let with_tenant = Outgoing {
        attributes: Attributes::new(vec![("tenant".to_owned(), AttributeValue::Text("acme".to_owned()))]).unwrap(),
        ..message("hay")
    };
    send(
        &queue,
        [Outgoing::new(large.clone()), with_tenant, grouped("Needle", "g")],
    )
    .await;
    assert_eq!(seen(&queue, body_has("needle")).await, [large]);
    let tenant = text(FilterField::Attribute("tenant".to_owned()), TextRelation::Is, "acme");
    assert_eq!(seen(&queue, tenant).await, ["hay"]);
    assert_eq!(
        seen(&queue, text(FilterField::Group, TextRelation::Is, "g")).await,
        ["Needle"]
    );
    let page = queue.peek(all()).await.unwrap();
    assert_eq!(
        seen(&queue, MessageFilter::of_id(page.messages[1].message.id.as_str())).await,
        ["hay"]
    );
    let aged = |relation| MessageFilter::new(vec![FilterClause::Age { relation, age: LONG }]).unwrap();
    assert_eq!(seen(&queue, aged(AgeRelation::Younger)).await.len(), 3);
    assert!(seen(&queue, aged(AgeRelation::Older)).await.is_empty());
    let cut = PeekRequest {
        filter: body_has("needle"),
        body_limit: Some(4),
        ..all()
    };
    let cut = queue.peek(cut).await.unwrap().messages.remove(0);
    assert_eq!((body(&cut).as_str(), cut.body_bytes), ("xxxx", 3006));
}

async fn three_dead(backend: &impl Backend) -> Arc<dyn Queue> {
    let queue = backend.queue("orders").await;
    send(&queue, ["one", "two", "three"].map(message)).await;
    for reason in ["timeout of the bank", "no such order", "timeout again"] {
        let delivery = take_one(&queue).await;
        let settlement = Settlement::DeadLetter {
            failure: failure(reason),
        };
        end(&queue, &delivery, settlement).await.unwrap();
    }
    queue
}

fn timeouts(action: DeadLetterAction, limit: usize, after: Option<PeekCursor>) -> DeadLetterSweep {
    DeadLetterSweep {
        action,
        filter: text(FilterField::Reason, TextRelation::Contains, "timeout"),
        after,
        limit,
    }
}

async fn a_peek_at_dead_letters_finds_them_where_they_are_and_by_where_they_came_from(backend: &impl Backend) {
    let queue = three_dead(backend).await;
    let dead = backend.queue("orders-dead").await;
    let from = text(FilterField::Queue, TextRelation::Is, "orders");
    assert_eq!(seen(&dead, from).await, ["one", "two", "three"]);
    assert!(seen(&queue, MessageFilter::default()).await.is_empty());
    let of_queue = |filter| PeekRequest {
        scope: PeekScope::DeadLetters,
        filter,
        ..all()
    };
    let reason = text(FilterField::Reason, TextRelation::Contains, "order");
    assert_eq!(seen_by(&queue, of_queue(reason)).await, ["two"]);
    let handler = text(FilterField::Handler, TextRelation::IsNot, "resize");
    assert!(seen_by(&queue, of_queue(handler)).await.is_empty());
}

async fn dead_letters_that_pass_a_filter_are_put_back_and_the_others_stay(backend: &impl Backend) {
    let queue = three_dead(backend).await;
    let first = queue
        .sweep_dead(timeouts(DeadLetterAction::Redrive, 1, None))
        .await
        .unwrap();
    assert_eq!(first.messages, 1);
    assert_eq!(taken(&queue, 9).await, ["one"]);
    let rest = timeouts(DeadLetterAction::Redrive, 9, first.next);
    let rest = queue.sweep_dead(rest).await.unwrap();
    assert_eq!((rest.messages, rest.next), (1, None));
    assert_eq!(taken(&queue, 9).await, ["three"]);
    assert_eq!(queue.counts().await.unwrap().dead, 1);
}

async fn a_dead_letter_that_dies_again_is_not_put_back_twice_by_one_sweep(backend: &impl Backend) {
    let queue = three_dead(backend).await;
    let first = queue
        .sweep_dead(timeouts(DeadLetterAction::Redrive, 1, None))
        .await
        .unwrap();
    let settlement = Settlement::DeadLetter {
        failure: failure("timeout once more"),
    };
    end(&queue, &take_one(&queue).await, settlement).await.unwrap();
    let mut after = first.next;
    let mut redriven = 0;
    while after.is_some() {
        let step = queue
            .sweep_dead(timeouts(DeadLetterAction::Redrive, 9, after))
            .await
            .unwrap();
        redriven += step.messages;
        after = step.next;
    }
    assert_eq!(redriven, 1);
    assert_eq!(taken(&queue, 9).await, ["three"]);
}

async fn dead_letters_are_deleted_by_id_or_by_filter_and_the_others_stay(backend: &impl Backend) {
    let queue = three_dead(backend).await;
    let letters = queue.dead_letters(None, 9).await.unwrap();
    let ids = vec![letters[1].message.id.clone(), MessageId::random()];
    assert_eq!(queue.delete_dead(ids).await.unwrap(), 1);
    let deleted = queue
        .sweep_dead(timeouts(DeadLetterAction::Delete, 9, None))
        .await
        .unwrap();
    assert_eq!((deleted.messages, deleted.next), (2, None));
    assert_eq!(queue.counts().await.unwrap().dead, 0);
}

async fn a_dead_letter_is_replaced_as_a_whole_or_not_at_all(backend: &impl Backend) {
    let settings = Settings {
        max_messages: 1,
        content_based_deduplication: true,
        ..defaults("orders")
    };
    let queue = backend.queue_with("orders", settings).await;
    send(&queue, [message("wrong")]).await;
    let buried = bury(&queue).await;
    let again = |parent: &MessageId, replaces| SentAgain {
        message: checked(message("right")),
        parent: parent.clone(),
        replaces,
    };
    assert!(
        queue
            .send_again(again(&MessageId::random(), true))
            .await
            .unwrap()
            .is_none()
    );
    send(&queue, [message("in the way")]).await;
    let full = queue.send_again(again(&buried.message.id, true)).await;
    assert!(matches!(full, Err(SendError::Full { .. })), "{full:?}");
    assert_eq!(queue.counts().await.unwrap().dead, 1);
    end(&queue, &take_one(&queue).await, Settlement::Delete).await.unwrap();
    let id = queue
        .send_again(again(&buried.message.id, true))
        .await
        .unwrap()
        .unwrap();
    assert_ne!(id, buried.message.id);
    assert_eq!(queue.counts().await.unwrap().dead, 0);
    let page = queue.peek(all()).await.unwrap();
    assert_eq!(page.messages[0].parent.as_ref(), Some(&buried.message.id));
    assert_eq!(taken(&queue, 9).await, ["right"]);
}

async fn a_copy_of_a_message_is_no_duplicate_of_it(backend: &impl Backend) {
    let settings = Settings {
        content_based_deduplication: true,
        ..defaults("orders")
    };
    let queue = backend.queue_with("orders", settings).await;
    let id = queue.send(checked(urgent("a", 3))).await.unwrap();
    for _ in 0..2 {
        let again = SentAgain {
            message: checked(urgent("a", 3)),
            parent: id.clone(),
            replaces: false,
        };
        assert_ne!(queue.send_again(again).await.unwrap().unwrap(), id);
    }
    assert_eq!(taken(&queue, 9).await, ["a", "a", "a"]);
}

/// Lets the next message of a queue die.
async fn die(queue: &Arc<dyn Queue>, reason: &str) {
    let settlement = Settlement::DeadLetter {
        failure: failure(reason),
    };
    end(queue, &take_one(queue).await, settlement).await.unwrap();
}

async fn a_sweep_from_where_a_count_began_leaves_the_dead_letters_that_came_later(backend: &impl Backend) {
    let queue = three_dead(backend).await;
    let timeouts_of = timeouts(DeadLetterAction::Delete, 9, None).filter;
    let count = PeekRequest {
        scope: PeekScope::DeadLetters,
        filter: timeouts_of,
        limit: 1,
        ..all()
    };
    let page = queue.peek(count).await.unwrap();
    assert_eq!((page.messages.len(), page.next.is_some()), (1, true));
    send(&queue, [message("four")]).await;
    die(&queue, "timeout, later").await;
    let counted = timeouts(DeadLetterAction::Delete, 9, Some(page.start));
    let swept = queue.sweep_dead(counted).await.unwrap();
    assert_eq!((swept.messages, swept.next), (2, None));
    let left = queue.dead_letters(None, 9).await.unwrap();
    let left: Vec<_> = left.iter().map(|letter| &*letter.message.body).collect();
    assert_eq!(left, [&b"two"[..], b"four"]);
}

async fn every_page_counts_ages_up_to_the_first_one(backend: &impl Backend) {
    let queue = three_dead(backend).await;
    let old = FilterClause::Age {
        relation: AgeRelation::Older,
        age: LONG,
    };
    let old = |after| PeekRequest {
        scope: PeekScope::DeadLetters,
        filter: MessageFilter::new(vec![old.clone()]).unwrap(),
        after,
        ..all()
    };
    let first = queue.peek(old(None)).await.unwrap();
    assert!(first.messages.is_empty());
    backend.pass(2 * LONG).await;
    let again = queue.peek(old(Some(first.start))).await.unwrap();
    assert!(again.messages.is_empty(), "they were young when they were asked for");
    assert_eq!(queue.peek(old(None)).await.unwrap().messages.len(), 3);
}

async fn a_dead_letter_is_found_by_its_id_for_as_long_as_it_is_one(backend: &impl Backend) {
    let queue = three_dead(backend).await;
    let letters = queue.dead_letters(None, 9).await.unwrap();
    let id = letters[1].message.id.clone();
    let by_id = |scope| PeekRequest {
        scope,
        filter: MessageFilter::of_id(id.as_str()),
        ..all()
    };
    assert_eq!(seen_by(&queue, by_id(PeekScope::DeadLetters)).await, ["two"]);
    assert!(seen_by(&queue, by_id(PeekScope::Messages)).await.is_empty());
    assert_eq!(queue.redrive(Some(vec![id.clone()]), 9).await.unwrap(), 1);
    assert!(seen_by(&queue, by_id(PeekScope::DeadLetters)).await.is_empty());
    assert_eq!(seen_by(&queue, by_id(PeekScope::Messages)).await, ["two"]);
    // What else the filter says counts, too.
    let clauses = [
        MessageFilter::of_id(letters[0].message.id.as_str()),
        text(FilterField::Reason, TextRelation::Contains, "order"),
    ];
    let clauses = clauses.into_iter().flat_map(MessageFilter::into_clauses).collect();
    let none = PeekRequest {
        filter: MessageFilter::new(clauses).unwrap(),
        ..by_id(PeekScope::DeadLetters)
    };
    assert!(seen_by(&queue, none).await.is_empty());
}

async fn a_dead_letter_that_somebody_holds_is_neither_deleted_nor_replaced_nor_put_back(backend: &impl Backend) {
    let queue = three_dead(backend).await;
    let held = take(&backend.queue("orders-dead").await, 3).await;
    let ids: Vec<MessageId> = held.into_iter().map(|delivery| delivery.message.id).collect();
    let again = SentAgain {
        message: checked(message("right")),
        parent: ids[0].clone(),
        replaces: true,
    };
    assert_eq!(queue.delete_dead(ids.clone()).await.unwrap(), 0);
    assert_eq!(queue.redrive(Some(ids), 9).await.unwrap(), 0);
    assert!(queue.send_again(again).await.unwrap().is_none());
    assert_eq!(queue.purge_dead().await.unwrap(), 0);
    assert_eq!(queue.counts().await.unwrap().dead, 3);
}

async fn a_dead_letter_is_free_once_its_holders_time_is_over(backend: &impl Backend) {
    let queue = three_dead(backend).await;
    let dead = backend.queue("orders-dead").await;
    // Each is the first to ask since that time was over.
    for left in [2, 1, 0] {
        let held = take_one(&dead).await.message.id;
        backend.pass(LONG).await;
        let done = match left {
            2 => queue.delete_dead(vec![held]).await.unwrap(),
            1 => queue.redrive(Some(vec![held]), 9).await.unwrap(),
            _ => {
                let again = SentAgain {
                    message: checked(message("right")),
                    parent: held,
                    replaces: true,
                };
                u64::from(queue.send_again(again).await.unwrap().is_some())
            }
        };
        assert_eq!((done, queue.counts().await.unwrap().dead), (1, left));
    }
    assert_eq!(taken(&queue, 9).await, ["two", "right"]);
}

async fn a_purge_of_dead_letters_leaves_the_queue_and_the_letters_of_others(backend: &impl Backend) {
    let queue = three_dead(backend).await;
    let shared = Settings {
        dead_letter: defaults("orders").dead_letter,
        ..defaults("invoices")
    };
    let other = backend.queue_with("invoices", shared).await;
    send(&other, [message("of others")]).await;
    die(&other, "timeout").await;
    send(&queue, [message("waits")]).await;
    assert_eq!(queue.purge_dead().await.unwrap(), 3);
    let counts = [queue.counts().await.unwrap(), other.counts().await.unwrap()];
    assert_eq!(counts.map(|counts| counts.dead), [0, 1]);
    assert_eq!(taken(&queue, 9).await, ["waits"]);
}

async fn what_was_made_from_a_message_says_so_for_as_long_as_it_lives(backend: &impl Backend) {
    let queue = backend.queue("orders").await;
    send(&queue, [message("wrong")]).await;
    let parent = bury(&queue).await.message.id;
    let again = SentAgain {
        message: checked(message("right")),
        parent: parent.clone(),
        replaces: true,
    };
    let id = queue.send_again(again).await.unwrap().unwrap();
    let parents = async |scope| {
        let page = queue.peek(PeekRequest { scope, ..all() }).await.unwrap();
        let parents = page.messages.into_iter().map(|message| message.parent.unwrap());
        parents.collect::<Vec<_>>()
    };
    assert_eq!(parents(PeekScope::Messages).await, std::slice::from_ref(&parent));
    die(&queue, "again").await;
    assert_eq!(parents(PeekScope::DeadLetters).await, std::slice::from_ref(&parent));
    assert_eq!(queue.redrive(Some(vec![id]), 1).await.unwrap(), 1);
    assert_eq!(parents(PeekScope::Messages).await, [parent]);
}
