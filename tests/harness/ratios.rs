//! Figures as ratios to a baseline of the same run: the runs of all rows are interleaved and repeated, so that what else the
//! machine does falls on all of them.

#![expect(clippy::print_stdout, reason = "a benchmark speaks to a person")]

use std::{fmt, fs, thread};

/// One thing that is measured again and again.
pub struct Row<'a> {
    name: String,
    run: Box<dyn FnMut() -> f64 + 'a>,
    bound: Option<Bound>,
}

/// What the ratio to the baseline has to be, or the figure itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// The figure is at most this, in the unit of its table: for what is promised as it stands.
    FigureAtMost(f64),
}

impl Bound {
    fn judge(self, figure: f64, ratio: f64) -> String {
        let (word, bound, judged, held) = match self {
            Self::AtLeast(bound) => ("at least", bound, ratio, ratio >= bound),
            Self::AtMost(bound) => ("at most", bound, ratio, ratio <= bound),
            Self::FigureAtMost(bound) => ("figure at most", bound, figure, figure <= bound),
        };
        if held {
            format!("{word} {bound}: held")
        } else {
            format!("{word} {bound}: MISSED by {:.2}", (judged - bound).abs())
        }
    }
}

impl fmt::Debug for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<'a> Row<'a> {
    /// What `run` returns each time is the figure, in the unit of its table.
    pub fn new(name: impl Into<String>, run: impl FnMut() -> f64 + 'a) -> Self {
        Self {
            name: name.into(),
            run: Box::new(run),
            bound: None,
        }
    }

    #[must_use]
    pub fn bound(mut self, bound: Bound) -> Self {
        self.bound = Some(bound);
        self
    }
}

/// The figures of one row, one per round.
#[derive(Debug, Clone)]
pub struct Figures(Vec<f64>);

impl Figures {
    pub fn new(figures: Vec<f64>) -> Self {
        assert!(!figures.is_empty(), "something was measured");
        Self(figures)
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    pub fn median(&self) -> f64 {
        *self.sorted().get(self.0.len() / 2).unwrap()
    }

    pub fn lowest(&self) -> f64 {
        *self.sorted().first().unwrap()
    }

    pub fn highest(&self) -> f64 {
        *self.sorted().last().unwrap()
    }

    /// By how much it is more than the other, round by round.
    #[must_use]
    pub fn less(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(own, other)| own - other).collect())
    }

    #[must_use]
    pub fn plus(&self, more: f64) -> Self {
        Self(self.0.iter().map(|own| own + more).collect())
    }

    #[must_use]
    pub fn times(&self, factor: f64) -> Self {
        Self(self.0.iter().map(|own| own * factor).collect())
    }

    /// Round by round, so that a slow moment of the machine falls on both.
    #[must_use]
    pub fn by(&self, baseline: &Self) -> Self {
        Self(self.0.iter().zip(&baseline.0).map(|(own, base)| own / base).collect())
    }
}

/// Runs every row in every round, prints a table of `unit`, and returns the figures. The first row is the baseline of the
/// others. Each row runs once before, unseen.
pub fn compare(title: &str, unit: &str, rounds: usize, mut rows: Vec<Row<'_>>) -> Vec<Figures> {
    let mut figures: Vec<Vec<f64>> = rows.iter().map(|_| Vec::new()).collect();
    for round in 0..=rounds {
        for (row, figures) in rows.iter_mut().zip(&mut figures) {
            let figure = (row.run)();
            if round > 0 {
                figures.push(figure);
            }
        }
    }
    let figures: Vec<Figures> = figures.into_iter().map(Figures::new).collect();
    print_header(title, unit, rounds);
    let baseline = figures.first().unwrap();
    for (row, own) in rows.iter().zip(&figures) {
        print_row(&row.name, own, baseline, row.bound);
    }
    figures
}

/// The head of a table, as [`compare`] prints it.
pub fn print_header(title: &str, unit: &str, rounds: usize) {
    println!("\n{title}");
    println!(
        "{:<64} {:>30} {:>22}  bound",
        format!("  median of {rounds} rounds [lowest, highest]"),
        unit,
        "ratio"
    );
}

/// One row of a table, as [`compare`] prints them.
pub fn print_row(name: &str, own: &Figures, baseline: &Figures, bound: Option<Bound>) {
    let ratio = own.by(baseline);
    let spread = format!("{:.2} [{:.2}, {:.2}]", ratio.median(), ratio.lowest(), ratio.highest());
    println!(
        "  {name:<62} {:>30} {spread:>22}  {}",
        format!(
            "{} [{}, {}]",
            short(own.median()),
            short(own.lowest()),
            short(own.highest())
        ),
        bound.map_or_else(String::new, |bound| bound.judge(own.median(), ratio.median()))
    );
}

/// Three digits or more.
fn short(figure: f64) -> String {
    if figure.abs() >= 100.0 {
        format!("{figure:.0}")
    } else if figure.abs() >= 10.0 {
        format!("{figure:.1}")
    } else {
        format!("{figure:.2}")
    }
}

/// What machine this is, as far as it says.
pub fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory: u64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok())
        .unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{} cores of {}, {} GiB of memory, Linux {}, load before the run {}",
        thread::available_parallelism().map_or(0, usize::from),
        model.map_or("an unknown processor", |(_, model)| model),
        memory >> 20,
        kernel.trim(),
        load.split_whitespace().next().unwrap_or("unknown"),
    )
}
