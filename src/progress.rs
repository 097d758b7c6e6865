//! How far long work is: a bar on a terminal, a line now and then elsewhere. On stderr.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

const LINE_EVERY: Duration = Duration::from_secs(10);

/// One piece of long work at a time.
pub struct Progress {
    step: &'static str,
    bar: Option<ProgressBar>,
    total: u64,
    last_line: Instant,
}

impl Progress {
    /// Begins a step of `total` units.
    pub fn begin(step: &'static str, total: i64) -> Self {
        let total = u64::try_from(total).unwrap_or(0);
        let bar = std::io::stderr().is_terminal().then(|| {
            let template = "{msg} [{bar:30}] {human_pos}/{human_len} {per_sec} {eta} left";
            let style = ProgressStyle::with_template(template)
                .expect("the template is tried by every test that runs on a terminal");
            ProgressBar::new(total).with_style(style.progress_chars("=> ")).with_message(step)
        });
        Self { step, bar, total, last_line: Instant::now() }
    }

    pub fn at(&mut self, done: i64) {
        let done = u64::try_from(done).unwrap_or(0);
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
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
