//! Progress on stderr: a spinner per step in a terminal, plain lines everywhere else. Results go to
//! stdout, and not through here.

use std::io::IsTerminal;
use std::time::Duration;
use std::time::Instant;

use indicatif::MultiProgress;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;

/// Shows the steps of a command. Cloned freely.
#[derive(Clone)]
pub(crate) struct Progress(Option<MultiProgress>);

impl Progress {
    /// Spinners where stderr is a terminal.
    pub(crate) fn new() -> Self {
        Self(std::io::stderr().is_terminal().then(MultiProgress::new))
    }

    /// Begins a step; it ends when `done` is called, or silently when dropped.
    pub(crate) fn step(&self, what: impl Into<String>) -> Step {
        let what = what.into();
        let bar = self.0.as_ref().map(|bars| {
            let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})")
                .expect("a valid template");
            let bar =
                bars.add(ProgressBar::new_spinner().with_style(style).with_message(what.clone()));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            eprintln!("… {what}");
        }
        Step { progress: self.clone(), bar, what, start: Instant::now() }
    }

    /// A bar of so many seconds of business time; hidden where stderr is no terminal.
    pub(crate) fn bar(&self, seconds: u64) -> ProgressBar {
        let Some(bars) = &self.0 else { return ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{bar:30} {percent:>3} % {msg} ({elapsed})")
            .expect("a valid template");
        bars.add(ProgressBar::new(seconds).with_style(style))
    }

    /// Prints a line of a result to stdout, above the spinners.
    pub(crate) fn result(&self, line: impl AsRef<str>) {
        match &self.0 {
            Some(bars) => bars.suspend(|| println!("{}", line.as_ref())),
            None => println!("{}", line.as_ref()),
        }
    }

    /// Prints one line above the spinners.
    pub(crate) fn say(&self, line: impl AsRef<str>) {
        match &self.0 {
            // Fails only if stderr is closed, and then no one can read it.
            Some(bars) => drop(bars.println(line)),
            None => eprintln!("{}", line.as_ref()),
        }
    }
}

/// A step under way.
pub(crate) struct Step {
    progress: Progress,
    bar: Option<ProgressBar>,
    what: String,
    start: Instant,
}

impl Step {
    /// Reports the step as done, with its duration.
    pub(crate) fn done(self) {
        self.progress.say(format!("✓ {} ({})", self.what, seconds(self.start.elapsed())));
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A duration as text, such as `4.2 s` or `3 min 5 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    match duration.as_secs() {
        0..60 => format!("{}.{} s", duration.as_secs(), duration.subsec_millis() / 100),
        total => format!("{} min {} s", total / 60, total % 60),
    }
}
