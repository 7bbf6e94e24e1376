//! What the user sees while something takes long.

use std::{
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// One step on the screen: a spinner with the elapsed time on a terminal, plain lines elsewhere.
///
/// Goes to standard error, so that the output of the command itself stays clean.
#[derive(Debug)]
pub struct Step {
    name: String,
    began: Instant,
    bar: Option<ProgressBar>,
}

impl Step {
    /// Shows that `name` has begun.
    #[must_use]
    pub fn start(name: impl Into<String>) -> Self {
        let name = name.into();
        let bar = std::io::stderr().is_terminal().then(|| spinner(&name));
        if bar.is_none() {
            eprintln!("bed: {name}");
        }
        Self { name, began: Instant::now(), bar }
    }

    /// Shows that the step is done, and how long it took. A step that is dropped instead has failed.
    pub fn done(self) {
        let line = format!("bed: {} ({:.1} s)", self.name, self.began.elapsed().as_secs_f64());
        match &self.bar {
            Some(bar) => bar.finish_and_clear(),
            None if self.began.elapsed() < Duration::from_secs(1) => return,
            None => {}
        }
        eprintln!("{line}");
    }
}

/// Prints what a command was asked for. A reader that has gone, such as `head`, has what it wanted.
pub fn answer(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end_matches('\n'));
}

fn spinner(name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("bed: {msg} {spinner} {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = ProgressBar::new_spinner().with_style(style).with_message(name.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}
