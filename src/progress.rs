//! Shows on stderr how far long work is: by a bar on a terminal, elsewhere by a line now and then.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};
use tokio::sync::watch;

const LINE_EVERY: Duration = Duration::from_secs(10);
const TOLD_EVERY: Duration = Duration::from_millis(500);

/// The progress of long work, which is done in one step after another.
pub struct Progress {
    step: &'static str,
    bar: Option<ProgressBar>,
    total: u64,
    last_line: Instant,
    told: Option<(watch::Sender<String>, Instant)>,
}

impl Progress {
    /// The progress of work that is one step of `total` units, which begins.
    pub fn of(step: &'static str, total: impl TryInto<u64>) -> Self {
        let mut progress = Self::default();
        progress.begin(step, total);
        progress
    }

    /// Progress of which each step is sent to the receiver, too.
    pub fn told() -> (Self, watch::Receiver<String>) {
        let (sender, receiver) = watch::channel("beginning".to_owned());
        let mut progress = Self::default();
        progress.told = Some((sender, Instant::now()));
        (progress, receiver)
    }

    /// Begins a step of `total` units.
    pub fn begin(&mut self, step: &'static str, total: impl TryInto<u64>) {
        self.end();
        self.step = step;
        self.total = total.try_into().unwrap_or(0);
        self.last_line = Instant::now();
        self.bar = std::io::stderr().is_terminal().then(|| bar(step, self.total));
        self.tell(0);
    }

    /// Says how much of the step is done. A number that is negative counts as 0.
    pub fn at(&mut self, done: impl TryInto<u64>) {
        let done = done.try_into().unwrap_or(0);
        self.total = self.total.max(done);
        match &self.bar {
            Some(bar) => {
                bar.set_length(self.total);
                bar.set_position(done);
            }
            None if self.last_line.elapsed() >= LINE_EVERY => {
                tracing::info!("{}: {done} of {}", self.step, self.total);
                self.last_line = Instant::now();
            }
            None => {}
        }
        if self.told.as_ref().is_some_and(|(_, last)| last.elapsed() >= TOLD_EVERY) {
            self.tell(done);
        }
    }

    /// Removes the bar from the terminal, before something else is written there.
    pub fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn tell(&mut self, done: u64) {
        let percent = done * 100 / self.total.max(1);
        if let Some((audience, last)) = &mut self.told {
            audience.send_replace(format!("{} {percent} %", self.step));
            *last = Instant::now();
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self { step: "", bar: None, total: 0, last_line: Instant::now(), told: None }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

fn bar(step: &'static str, total: u64) -> ProgressBar {
    let template = "{msg} [{bar:30}] {human_pos}/{human_len} {per_sec} {eta} left";
    let style = ProgressStyle::with_template(template)
        .expect("the template is tried by every test that runs on a terminal");
    ProgressBar::new(total).with_style(style.progress_chars("=> ")).with_message(step)
}
