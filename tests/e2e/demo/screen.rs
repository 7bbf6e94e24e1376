//! What the demo says: chapters, sentences, and steps with the time that they took.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use console::{StyledObject, style};
use indicatif::{ProgressBar, ProgressStyle};

/// The widest line that is written.
const WIDTH: usize = 88;

/// Says what all of this is about.
pub fn title(text: &str) {
    println!("\n{}", style(text).bold());
}

/// Begins a chapter.
pub fn chapter(number: u8, title: &str) {
    println!("\n{} {}\n", style(format!("{number}.")).bold().cyan(), style(title).bold());
}

/// Says something, in lines that fit the screen.
pub fn say(text: &str) {
    for line in wrapped(text) {
        println!("   {line}");
    }
}

/// Shows text as it is, such as a manifest or what a program printed; nothing if there is none.
pub fn quote(text: &str) {
    if text.is_empty() {
        return;
    }
    println!();
    for line in text.trim_end().lines() {
        println!("     {}", style(line).cyan());
    }
    println!();
}

/// Says that something came out as it should.
pub fn good(text: &str) {
    println!("   {} {text}", tick());
}

/// Says why the demo ends here.
pub fn failed(error: &anyhow::Error) {
    eprintln!("\n   {} {error:#}", style("✗").red().bold().for_stderr());
    eprintln!(
        "     The demo ends here: this did not come out as it should. `bed run --keep` keeps all logs."
    );
}

/// Does a step, with a spinner and the elapsed time on a terminal, and says how long it took.
pub async fn step<T>(what: &str, work: impl AsyncFnOnce(&Progress) -> Result<T>) -> Result<T> {
    let began = Instant::now();
    let progress = Progress::new(what);
    let result = work(&progress).await;
    progress.0.finish_and_clear();
    let value = result.with_context(|| format!("{what}: failed"))?;
    println!("   {} {what} {}", tick(), style(seconds(began.elapsed())).dim());
    Ok(value)
}

/// How far a step is.
pub struct Progress(ProgressBar);

impl Progress {
    fn new(what: &str) -> Self {
        // Without a terminal nothing is drawn: the line at a step's end is enough there.
        if !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let shape = ProgressStyle::with_template("   {spinner} {prefix} {msg} {elapsed}");
        let shape = shape.unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = ProgressBar::new_spinner().with_style(shape).with_prefix(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    /// Shows how many of how many are done.
    pub fn show(&self, done: usize, all: usize) {
        self.0.set_message(format!("({} of {})", thousands(done as u64), thousands(all as u64)));
    }
}

/// A duration for reading.
pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// A count with separators.
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// Bytes in a unit that fits.
#[allow(clippy::cast_precision_loss)] // A rounded figure is wanted.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        10_000..1_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// How many times less; nothing where nothing is left.
#[allow(clippy::cast_precision_loss)] // A rounded figure is wanted.
pub fn ratio(before: u64, after: u64) -> String {
    if after == 0 {
        return "-".to_owned();
    }
    let times = before as f64 / after as f64;
    if times < 9.95 { format!("{times:.1}x") } else { format!("{times:.0}x") }
}

fn tick() -> StyledObject<&'static str> {
    style("✓").green().bold()
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        if let Some(line) = lines.last_mut() {
            if line.is_empty() {
                line.push_str(word);
            } else if line.chars().count() + 1 + word.chars().count() <= WIDTH - 3 {
                line.push(' ');
                line.push_str(word);
            } else {
                lines.push(word.to_owned());
            }
        }
    }
    lines
}
