//! Calls that are dropped at any moment give back all that they took: slots, memory of the budget, and the compiler. Attempts that
//! are interrupted give back their leases, with the line that stands behind them, and what is being settled is settled.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use harness::{
    bench::{Bench, policy, poll_once, together},
    faulty_queue::{Extensions, FaultyQueue},
    guests::no_op,
    hostile::Parts,
    pipeline::{Pipeline, manifest},
    prompt::Prompt,
};
use sandhog_executor::{EngineOptions, Executor as _, Verdict};
use sandhog_queue::{
    Queue,
    message::{Outgoing, QueueName},
};
use sandhog_simple::{SimpleStore, settings::Settings};
use tokio::{runtime::Handle, sync::Notify, task::yield_now, time::timeout};

/// How long a fact may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Room for four instances, and a budget for as many.
fn bench() -> Bench {
    Bench::with(EngineOptions {
        max_live_instances: 4,
        threads: 2,
        memory_budget: 1 << 30,
        ..EngineOptions::default()
    })
}

/// A handler that waits in every way that there is, three times: it sleeps, sends, writes a line, computes for some
/// ticks, and grows its memory.
fn waits_everywhere() -> Vec<u8> {
    Parts::handle(
        "(local $n i32) (local $round i32) (local $p i32)
        (loop $again
            (local.set $p (call $after (i64.const 500000))) (call $block (local.get $p)) (call $forget (local.get $p))
            (call $send (i32.const 256) (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
            (i64.store (i32.const 512) (i64.const 0x0a70657473))
            (call $write (call $stdout) (i32.const 512) (i32.const 5) (i32.const 640))
            (local.set $n (i32.const 0))
            (loop $busy
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if $busy (i32.lt_u (local.get $n) (i32.const 4000000))))
            (drop (memory.grow (i32.const 1)))
            (local.set $round (i32.add (local.get $round) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $round) (i32.const 3))))
        (global.get $ok)",
    )
    .clocks()
    .stdout()
    .sends()
    .wasm()
}

/// Polls a future `polls` times, letting others run in between, and drops it; its output if it came to its end.
async fn poll_and_drop<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = Box::pin(future);
    for _ in 0..polls {
        if let Poll::Ready(output) = poll_once(future.as_mut()).await {
            return Some(output);
        }
        yield_now().await;
    }
    None
}

/// All slots and all of the budget are there: as many as there is room for are alive at the same time, and go.
async fn check_full_house(bench: &Bench) {
    wait(|| bench.executor.live_instances() == 0, "the last instance to go").await;
    let sleep = Parts::handle("(call $block (call $after (i64.const -1))) unreachable")
        .clocks()
        .wasm();
    let sleeper = timeout(PATIENCE, bench.load(sleep)).await.unwrap().unwrap();
    let most = bench.executor.most_at_once(&sleeper, &policy());
    assert_eq!(most, 4, "the budget is the narrower bound");
    let house = together((0..4).map(|_| bench.run(&sleeper, &[b""])));
    tokio::select! {
        reports = house => panic!("they were to sleep: {reports:?}"),
        () = wait(|| bench.executor.live_instances() == 4, "a full house") => {}
    }
    wait(|| bench.executor.live_instances() == 0, "an empty house").await;
}

async fn wait(fact: impl Fn() -> bool, what: &str) {
    let fact = async {
        while !fact() {
            yield_now().await;
        }
    };
    assert!(timeout(PATIENCE, fact).await.is_ok(), "waited in vain for {what}");
}

#[tokio::test]
async fn a_call_that_is_dropped_after_any_number_of_polls_gives_everything_back() {
    let bench = bench();
    let component = bench.load(waits_everywhere()).await.unwrap();
    // So many polls last from the first to the last moment of a call, in steps of some microseconds.
    let mut dropped = 0;
    let mut polls = 0;
    let report = loop {
        if let Some(report) = poll_and_drop(bench.run(&component, &[b"x"]), polls).await {
            break report;
        }
        dropped += 1;
        if dropped % 50 == 0 {
            check_full_house(&bench).await;
        }
        polls += 1 + polls / 40;
    };
    assert_eq!(
        (report.verdicts.as_slice(), report.sends.len()),
        ([Verdict::Success].as_slice(), 3)
    );
    assert!(dropped > 50, "only {dropped} calls were dropped");
    println!("{dropped} calls were dropped, after up to {polls} polls");
    check_full_house(&bench).await;
    bench.check_neighbour().await;
}

#[tokio::test]
async fn a_call_that_is_dropped_at_each_step_of_its_guest_gives_everything_back() {
    let bench = bench();
    let component = bench.load(waits_everywhere()).await.unwrap();
    for step in 1..=3 {
        for _ in 0..10 {
            let (reached, seen) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
            let mut call = bench.call(&[b"x"], &bench.policy);
            let tell = Arc::clone(&reached);
            call.log = Arc::new(move |_| {
                if seen.fetch_add(1, Ordering::Relaxed) + 1 == step {
                    tell.notify_one();
                }
            });
            let run = bench.executor.run(&component, call);
            tokio::select! {
                biased;
                () = reached.notified() => {}
                report = run => assert_eq!(report.verdicts, [Verdict::Success]),
            }
        }
        check_full_house(&bench).await;
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_while_it_waits_for_room_gives_everything_back() {
    let bench = bench();
    let sleep = Parts::handle("(call $block (call $after (i64.const 20000000))) (global.get $ok)")
        .clocks()
        .wasm();
    let sleeper = bench.load(sleep).await.unwrap();
    let calls = Mutex::new(0);
    let house = together((0..100).map(|_| async {
        bench.run(&sleeper, &[b""]).await;
        *calls.lock().unwrap() += 1;
    }));
    let waiting = async {
        for polls in 0..200 {
            assert_eq!(
                poll_and_drop(bench.run(&sleeper, &[b""]), polls % 20).await.map(drop),
                None
            );
        }
    };
    tokio::join!(house, waiting);
    assert_eq!(*calls.lock().unwrap(), 100);
    check_full_house(&bench).await;
}

#[tokio::test]
async fn a_load_that_is_dropped_after_any_number_of_polls_gives_the_compiler_back() {
    let bench = bench();
    let mut dropped = 0;
    let mut polls = 0;
    let loaded = loop {
        if let Some(loaded) = poll_and_drop(bench.load(waits_everywhere()), polls).await {
            break loaded;
        }
        dropped += 1;
        polls += 1 + polls / 5;
    };
    loaded.unwrap();
    println!("{dropped} loads were dropped, after up to {polls} polls");
    check_full_house(&bench).await;
    bench.check_neighbour().await;
}

#[tokio::test]
async fn a_trial_that_is_dropped_after_any_number_of_polls_gives_everything_back() {
    let bench = bench();
    let component = bench.load(no_op()).await.unwrap();
    let policy = Arc::new(policy());
    let mut polls = 0;
    while poll_and_drop(
        bench
            .executor
            .relink("test.wasm".into(), &component, Arc::clone(&policy)),
        polls,
    )
    .await
    .is_none()
    {
        polls += 1 + polls / 40;
    }
    check_full_house(&bench).await;
}

#[tokio::test]
async fn an_executor_that_is_dropped_in_the_middle_of_everything_ends() {
    for polls in [0, 1, 10, 100, 1000, 10_000] {
        let bench = bench();
        let component = bench.load(waits_everywhere()).await.unwrap();
        let calls = together((0..10).map(|_| bench.run(&component, &[b"x"])));
        let load = bench.load(no_op());
        assert!(
            poll_and_drop(async { tokio::join!(calls, load) }, polls)
                .await
                .is_none_or(|(reports, _)| reports.len() == 10)
        );
        drop(bench);
    }
}

/// A handler whose queue hands out four messages of one group at once: the first one is with a guest that waits for its turn, and
/// the others stand in line behind it.
struct Group {
    executor: Arc<Prompt>,
    pipeline: Pipeline,
    queue: Arc<dyn Queue>,
    faulty: Arc<FaultyQueue>,
}

const TURNS: [&str; 4] = ["turn-1", "turn-2", "turn-3", "turn-4"];

impl Group {
    async fn new(extensions: Extensions) -> Self {
        let (executor, store, name) = (Arc::new(Prompt::default()), SimpleStore::ephemeral(), "bench");
        let mut pipeline = Pipeline::new(&Handle::current(), store.clone(), executor.clone());
        let name = QueueName::new(name).unwrap();
        let settings = Settings {
            visibility_timeout: Duration::from_secs(6),
            ..Settings::defaults(&name)
        };
        let queue: Arc<dyn Queue> = store.queue(name, settings).await.unwrap();
        for answer in queue
            .send_many(TURNS.map(|body| Outgoing::new(body).check().unwrap()).to_vec())
            .await
        {
            answer.unwrap();
        }
        let faulty = FaultyQueue::new(Arc::clone(&queue), [], extensions).in_one_group();
        let source: Arc<dyn Queue> = Arc::<FaultyQueue>::clone(&faulty);
        pipeline.handle_on(source, &executor.component().await, manifest(false));
        wait(|| executor.inside.load(Ordering::SeqCst) == 1, "the first guest").await;
        assert_eq!(queue.counts().await.unwrap().in_flight, 4);
        Self {
            executor,
            pipeline,
            queue,
            faulty,
        }
    }

    fn handled(&self) -> usize {
        self.executor.handled.lock().unwrap().len()
    }
}

#[tokio::test]
async fn an_attempt_that_is_interrupted_gives_back_its_message_and_the_line_behind_it() {
    let group = Group::new(Extensions::Scripted([].into())).await;
    timeout(PATIENCE, group.pipeline.interrupt()).await.unwrap();
    assert_eq!(group.executor.inside.load(Ordering::SeqCst), 0);
    let counts = group.queue.counts().await.unwrap();
    assert_eq!((counts.ready, counts.in_flight), (4, 0));
    let again = group.queue.receive(4, Duration::ZERO).await.unwrap();
    let bodies: Vec<_> = again.iter().map(|delivery| delivery.message.body.clone()).collect();
    assert_eq!(bodies, TURNS);
    assert!(
        again.iter().all(|delivery| delivery.receive_count.get() == 1),
        "a receive that came to nothing is not counted: {again:?}"
    );
}

#[tokio::test]
async fn what_stands_in_line_is_given_back_when_the_handler_stops_between_two_of_a_group() {
    let group = Group::new(Extensions::Scripted([].into())).await;
    let stopping = group.pipeline.stop_handlers();
    group.executor.turns.add_permits(4);
    timeout(PATIENCE, stopping).await.unwrap();
    let counts = group.queue.counts().await.unwrap();
    assert_eq!((counts.ready, counts.in_flight), (3, 0));
}

#[tokio::test]
async fn a_group_whose_leases_are_lost_is_interrupted_and_nothing_of_it_is_settled() {
    let group = Group::new(Extensions::Lost).await;
    wait(|| group.executor.inside.load(Ordering::SeqCst) == 0, "the interruption").await;
    assert_eq!((group.handled(), group.faulty.settled()), (0, 0));
    timeout(PATIENCE, group.pipeline.interrupt()).await.unwrap();
}

#[tokio::test]
async fn a_settlement_under_way_is_not_cut_by_the_order_to_stop() {
    let group = Group::new(Extensions::Scripted([].into())).await;
    group.faulty.hold_settlements();
    group.executor.turns.add_permits(1);
    wait(|| group.handled() == 1, "the first guest to end").await;
    let mut stopping = std::pin::pin!(group.pipeline.interrupt());
    assert!(poll_once(stopping.as_mut()).await.is_pending());
    assert_eq!(group.queue.counts().await.unwrap().in_flight, 4);
    group.faulty.let_go();
    timeout(PATIENCE, stopping).await.unwrap();
    let counts = group.queue.counts().await.unwrap();
    assert_eq!((counts.ready, counts.in_flight), (3, 0), "one was deleted: {counts:?}");
}
