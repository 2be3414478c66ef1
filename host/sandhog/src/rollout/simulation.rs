//! Measures how often a rollout is wrong, and how long it takes to be right, in worlds with known rates of breaks. The seeds are
//! fixed, so a run always gives the same figures.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use tokio::time::Instant;

use super::{
    probation::{
        Answered, DEFAULT_CALLS, DEFAULT_TIME, FinishedCall, Lane, Probation, ProbationChange, ProbationProgress,
        RolloutTerms, SecondOpinion, SecondOpinions,
    },
    rule::CallCounts,
};

/// The share of rollouts in which a version that is no worse may be called worse.
const MOST_FALSE: f64 = 0.001;
/// The time between two messages.
const PACE: Duration = Duration::from_millis(100);

/// How two versions behave on the messages of a queue.
#[derive(Debug, Clone, Copy)]
struct World {
    name: &'static str,
    /// The share of its calls that the newest version breaks.
    newer: f64,
    /// The same of its predecessor.
    older: f64,
    /// The share of messages that break every version.
    poison: f64,
    /// Whether only messages of the first group break the newest version.
    one_bad_group: bool,
    /// The message groups, or none.
    groups: Option<u32>,
    /// What was counted of the predecessor before.
    record: CallCounts,
    /// The share of the newest version on probation.
    canary: f64,
    /// Bursts in which both versions break on everything begin at this share of calls.
    bursts: f64,
    /// The calls of a burst.
    burst_calls: u64,
    /// After how many calls the rates of the newest version begin to hold; those of its predecessor hold before.
    after: u64,
    /// Whether a second try succeeds, whichever version makes it.
    heals: bool,
    /// Whether times are compared: the newest version is slow with the rates above, and nothing breaks.
    times: bool,
    /// The most calls.
    calls: u64,
    /// If the newest version is worse: the calls within which 95 in 100 rollouts are to find out, counted from `after`.
    found_within: Option<u64>,
}

const WORLD: World = World {
    name: "",
    newer: 0.0,
    older: 0.0,
    poison: 0.0,
    one_bad_group: false,
    groups: None,
    record: CallCounts { calls: 0, breaks: 0 },
    canary: 1.0,
    bursts: 0.0,
    burst_calls: 20,
    after: 0,
    heals: false,
    times: false,
    calls: 50_000,
    found_within: None,
};

/// What came of one rollout.
#[derive(Debug, Default, Clone, Copy)]
struct Rollout {
    /// The call at which the newest version was found to be worse.
    worse_at: Option<u64>,
    /// The calls that broke until then.
    broken: u64,
    /// Those of them whose message the predecessor was not asked about, or did not handle.
    lost: u64,
    doubts: u64,
    /// The call at which it was proven.
    proven_at: Option<u64>,
}

struct Simulation {
    world: World,
    random: SmallRng,
    probation: Probation,
    now: Instant,
    burst: u64,
    rollout: Rollout,
}

impl Simulation {
    fn run(world: World, seed: u64) -> Rollout {
        let terms = RolloutTerms {
            attempts: DEFAULT_CALLS,
            time: DEFAULT_TIME,
            canary: world.canary,
            slower: world.times.then_some(3.0),
            automatic: true,
        };
        let now = Instant::now();
        let mut simulation = Self {
            world,
            random: SmallRng::seed_from_u64(seed),
            probation: Probation::new(terms, ProbationProgress::new(world.record), now),
            now,
            burst: 0,
            rollout: Rollout::default(),
        };
        for call in 1..=world.calls {
            simulation.message(call);
            if simulation.rollout.worse_at.is_some() {
                break;
            }
        }
        simulation.rollout
    }

    fn message(&mut self, call: u64) {
        self.now += PACE;
        let group = self.world.groups.map(|groups| self.random.random_range(0..groups));
        let place = group.map_or_else(
            || self.random.random(),
            |group| (f64::from(group) * 0.377 + 0.2).fract(),
        );
        let is_poison = self.random.random_bool(self.world.poison);
        if self.burst == 0 && self.random.random_bool(self.world.bursts) {
            self.burst = self.world.burst_calls;
        }
        self.burst = self.burst.saturating_sub(1);
        let is_hit = is_poison || self.burst > 0;
        let is_early = call <= self.world.after;
        let newer = match (is_early, self.world.one_bad_group, group) {
            (true, _, _) => self.world.older,
            (false, true, Some(0)) => 1.0,
            (false, true, _) => 0.0,
            (false, false, _) => self.world.newer,
        };
        let change = match self.probation.lane(place) {
            Lane::Newest => self.newest(newer, is_hit),
            Lane::Predecessor => {
                let call = self.call(self.world.older, is_hit);
                self.probation.predecessor_call(call, self.now)
            }
        };
        match change {
            None | Some(ProbationChange::Cleared) => {}
            Some(ProbationChange::Doubtful) => self.rollout.doubts += 1,
            Some(ProbationChange::Proven) => self.rollout.proven_at = Some(call),
            Some(ProbationChange::Worse(_)) => self.rollout.worse_at = Some(call),
        }
    }

    fn newest(&mut self, rate: f64, is_hit: bool) -> Option<ProbationChange> {
        let call = self.call(rate, is_hit);
        self.rollout.broken += u64::from(call.broke);
        if !call.broke || self.probation.opinions(false) == SecondOpinions::None {
            self.rollout.lost += u64::from(call.broke);
            return self.probation.newest_call(call, self.now);
        }
        let is_handled = self.world.heals || !is_hit && !self.random.random_bool(self.world.older);
        self.rollout.lost += u64::from(!is_handled);
        let opinion = SecondOpinion {
            began: call.began,
            first_broke: true,
            answered: if is_handled {
                Answered::Success
            } else {
                Answered::NotEither
            },
            is_paused: false,
        };
        self.probation.second_opinion(opinion, self.now)
    }

    fn call(&mut self, rate: f64, is_hit: bool) -> FinishedCall {
        let is_bad = self.random.random_bool(rate);
        let broke = is_hit || is_bad && !self.world.times;
        let factor = if self.world.times && is_bad { 5.0 } else { 1.0 };
        FinishedCall {
            began: self.now,
            broke,
            succeeded: !broke,
            time: Duration::from_millis(self.random.random_range(8..=12)).mul_f64(factor),
        }
    }
}

/// What came of many rollouts in one world.
#[derive(Debug)]
struct Measured {
    world: World,
    runs: u64,
    worse: Vec<Rollout>,
    doubts: u64,
    proven: u64,
}

impl Measured {
    fn new(world: World, runs: u64) -> Self {
        let mut measured = Self {
            world,
            runs,
            worse: Vec::new(),
            doubts: 0,
            proven: 0,
        };
        for seed in 0..runs {
            let rollout = Simulation::run(world, seed);
            measured.doubts += rollout.doubts;
            measured.proven += u64::from(rollout.proven_at.is_some());
            if rollout.worse_at.is_some() {
                measured.worse.push(rollout);
            }
        }
        measured
    }

    /// The given percentile of a number, over the rollouts that ended with the verdict.
    fn percentile(&self, percent: usize, number: impl Fn(&Rollout) -> u64) -> u64 {
        let mut sorted: Vec<u64> = self.worse.iter().map(number).collect();
        sorted.sort_unstable();
        let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        sorted.get(at).copied().unwrap_or(0)
    }

    fn print(&self) {
        let worse_at = |rollout: &Rollout| rollout.worse_at.unwrap_or(0).saturating_sub(self.world.after);
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            self.world.name,
            self.runs,
            self.worse.len(),
            self.percentile(50, worse_at),
            self.percentile(95, worse_at),
            self.percentile(50, |rollout| rollout.broken),
            self.percentile(95, |rollout| rollout.lost),
            self.proven,
            self.doubts,
        );
    }

    /// Fails if the verdicts are not what they are to be, by more than the sampling error of three standard deviations.
    fn check(&self) {
        let worse = f64::from(u32::try_from(self.worse.len()).expect("few runs"));
        let runs = f64::from(u32::try_from(self.runs).expect("few runs"));
        let spread = |rate: f64| 3.0 * (runs * rate * (1.0 - rate)).sqrt();
        let name = self.world.name;
        match self.world.found_within {
            None => assert!(
                worse <= runs * MOST_FALSE + spread(MOST_FALSE),
                "{name}: {worse} of {runs} by mistake"
            ),
            Some(calls) => {
                let is_soon = |rollout: &&Rollout| rollout.worse_at.is_some_and(|at| at <= self.world.after + calls);
                let soon = self.worse.iter().filter(is_soon).count();
                let soon = f64::from(u32::try_from(soon).expect("few runs"));
                assert!(
                    soon >= runs * 0.95 - spread(0.95),
                    "{name}: {soon} of {runs} within {calls} calls"
                );
            }
        }
    }
}

fn record(breaks: u64, calls: u64) -> CallCounts {
    CallCounts { calls, breaks }
}

impl World {
    /// A world in which both versions break equally often.
    fn alike(name: &'static str, rate: f64, record: CallCounts) -> Self {
        Self {
            name,
            newer: rate,
            older: rate,
            record,
            ..WORLD
        }
    }

    /// The same world but for one thing.
    fn but(mut self, name: &'static str, change: impl FnOnce(&mut Self)) -> Self {
        self.name = name;
        change(&mut self);
        self
    }
}

/// Versions that break equally often in a world that does not change.
fn alike() -> Vec<World> {
    let mut worlds = vec![World::alike("nothing breaks", 0.0, record(0, 10_000))];
    for (name, rate, known) in [
        ("0.1 % break", 0.001, record(10, 10_000)),
        ("1 % break", 0.01, record(100, 10_000)),
        ("10 % break", 0.1, record(1_000, 10_000)),
        ("50 % break", 0.5, record(5_000, 10_000)),
    ] {
        let world = World::alike(name, rate, known);
        let unknown = World::alike("- no record", rate, WORLD.record);
        worlds.push(world);
        worlds.push(unknown);
        worlds.push(world.but("- canary 0.1", |world| world.canary = 0.1));
        worlds.push(world.but("- canary 0.5", |world| world.canary = 0.5));
        worlds.push(unknown.but("- no record, one group", |world| world.groups = Some(1)));
        worlds.push(unknown.but("- no record, 20 groups", |world| world.groups = Some(20)));
    }
    worlds
}

/// Versions that break equally often, in a world that is to blame.
fn blameless() -> Vec<World> {
    let known = record(0, 10_000);
    let mut worlds = Vec::new();
    for (name, rate) in [
        ("outage from the deploy on, 2 % break", 0.02),
        ("outage from the deploy on, 30 % break", 0.3),
        ("outage from the deploy on, 100 % break", 1.0),
    ] {
        let world = World::alike(name, rate, known);
        worlds.push(world);
        worlds.push(world.but("- canary 0.1", |world| world.canary = 0.1));
        worlds.push(world.but("- one group", |world| world.groups = Some(1)));
        worlds.push(world.but("- and each second try succeeds", |world| world.heals = true));
    }
    let calm = World::alike("", 0.0, known);
    let poison = calm.but("1 % of messages are poison", |world| world.poison = 0.01);
    worlds.push(poison);
    worlds.push(poison.but("- one group", |world| world.groups = Some(1)));
    let bursts = calm.but("bursts of 20 breaks, 1 in 1000 calls", |world| world.bursts = 0.001);
    worlds.push(bursts);
    worlds.push(bursts.but("- one group", |world| world.groups = Some(1)));
    worlds.push(bursts.but("- canary 0.1", |world| world.canary = 0.1));
    let healing = bursts.but("bursts of 8 breaks, each second try succeeds", |world| {
        (world.burst_calls, world.heals) = (8, true);
    });
    worlds.push(healing);
    worlds.push(healing.but("- one group", |world| world.groups = Some(1)));
    let slow = World::alike("10 % of calls of both are slow", 0.1, WORLD.record);
    worlds.push(World {
        times: true,
        canary: 0.5,
        ..slow
    });
    worlds
}

/// Newest versions that are worse. A record of a predecessor that never broke changes nothing: without one, the same is expected.
fn worse() -> Vec<World> {
    let mut worlds = Vec::new();
    for (name, rate, calls) in [
        ("breaks on everything", 1.0, 30),
        ("breaks 1 in 2", 0.5, 100),
        ("breaks 1 in 10", 0.1, 600),
        ("breaks 1 in 100", 0.01, 6_000),
        ("breaks 1 in 1000", 0.001, 70_000),
    ] {
        let world = World {
            name,
            newer: rate,
            calls: 200_000,
            found_within: Some(calls),
            ..WORLD
        };
        worlds.push(world);
        worlds.push(world.but("- one group", |world| world.groups = Some(1)));
        worlds.push(world.but("- only after 10000 calls", |world| world.after = 10_000));
        worlds.push(world.but("- canary 0.1", |world| {
            world.canary = 0.1;
            world.found_within = Some(calls * 3);
        }));
    }
    let flaky = World {
        name: "breaks 5 %, its predecessor 1 %",
        newer: 0.05,
        older: 0.01,
        calls: 100_000,
        found_within: Some(4_000),
        ..WORLD
    };
    worlds.push(flaky);
    worlds.push(flaky.but("- with a record", |world| world.record = record(100, 10_000)));
    worlds.push(flaky.but("breaks on one group of 20", |world| {
        world.one_bad_group = true;
        world.older = 0.0;
        world.groups = Some(20);
        world.found_within = Some(1_500);
    }));
    worlds.push(flaky.but("is 5 times as slow", |world| {
        (world.newer, world.older) = (1.0, 0.0);
        world.times = true;
        world.canary = 0.5;
        world.found_within = Some(100);
    }));
    worlds
}

fn measure(worlds: Vec<World>, runs: u64) {
    println!("| world | rollouts | worse | calls, median | calls, p95 | broke, median | lost, p95 | proven | doubts |");
    for world in worlds {
        let measured = Measured::new(world, runs);
        measured.print();
        measured.check();
    }
}

#[test]
fn versions_alike_are_not_called_worse() {
    let short = |world| World { calls: 2_000, ..world };
    measure(alike().into_iter().map(short).collect(), 8);
    measure(blameless().into_iter().map(short).collect(), 8);
}

#[test]
fn worse_versions_are_found_out() {
    let is_short = |world: &World| world.found_within.is_some_and(|calls| calls + world.after < 10_000);
    measure(worse().into_iter().filter(is_short).collect(), 8);
}

#[test]
#[ignore = "it takes many minutes, and measures the rates that the short tests can't"]
fn false_alarms_are_rare() {
    measure(alike(), 100);
}

#[test]
#[ignore = "it takes many minutes, and measures the rates that the short tests can't"]
fn the_world_is_rarely_taken_for_a_worse_version() {
    measure(blameless(), 100);
}

#[test]
#[ignore = "it takes many minutes, and measures the rates that the short tests can't"]
fn misses_are_rare() {
    measure(worse(), 100);
}
